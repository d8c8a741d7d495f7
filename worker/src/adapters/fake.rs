//! Containers that a test plays. They outlive the agent as real ones do.
//!
//! The program's first argument says how it behaves: `filling` is not prepared before [`FakeContainers::fill`], `hanging` is not made before [`FakeContainers::fill`] either, `refuse` cannot be created, `broken` cannot be started,
//! `panic` panics when first waited for, `stubborn` ignores its stop signal, `sticky` is deleted at the second try, `exit N` ends at once; anything else runs until it is told to end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::task::Exit;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::containers::{ContainerError, Containers, Executed, Found, LogSource, Reality};
use crate::launch::Launch;
use crate::logs::{Line, LogQuery};

/// Longest time for which something is filled.
const FILLING: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct FakeContainers {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    containers: HashMap<TaskId, Fake>,
    next_pid: u32,
    /// What the next checks say; then all succeed.
    answers: HashMap<TaskId, VecDeque<Executed>>,
    /// Programs that are `filling` can be made.
    filled: bool,
    /// What was done, in words.
    deeds: Vec<String>,
}

struct Fake {
    launch: Launch,
    reality: watch::Sender<Reality>,
}

impl FakeContainers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets those be made whose volumes are being filled, or that hang.
    pub(crate) fn fill(&self) {
        self.state().filled = true;
        self.filled.notify_all();
    }

    fn wait_until_filled(&self) {
        let state = self.filled.wait_timeout_while(self.state(), FILLING, |state| !state.filled).unwrap();
        assert!(!state.1.timed_out(), "nobody let it be filled");
    }

    /// Ends a container's program.
    pub(crate) fn end(&self, task: TaskId, exit: Exit) {
        self.state().containers[&task].reality.send_replace(Reality::Ended { exit });
    }

    /// Lets the next checks of a task end so.
    pub(crate) fn answer(&self, task: TaskId, codes: &[Option<i32>]) {
        let answer = |code: &Option<i32>| Executed { code: *code, output: format!("played {code:?}") };
        self.state().answers.entry(task).or_default().extend(codes.iter().map(answer));
    }

    pub(crate) fn reality(&self, task: TaskId) -> Reality {
        self.inspect(task)
    }

    /// How often this was done, e.g. `start <task>`.
    pub(crate) fn count(&self, deed: &str, task: TaskId) -> usize {
        let deed = format!("{deed} {task}");
        self.state().deeds.iter().filter(|done| **done == deed).count()
    }

    fn did(&self, deed: &str, task: TaskId) {
        self.state().deeds.push(format!("{deed} {task}"));
    }
}

impl Containers for FakeContainers {
    fn prepare(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.did("prepare", launch.task);
        if launch.arguments[0] == "filling" {
            self.wait_until_filled();
        }
        Ok(())
    }

    fn create(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.did("create", launch.task);
        if launch.arguments[0] == "hanging" {
            self.wait_until_filled();
        }
        if launch.arguments[0] == "refuse" {
            return Err(ContainerError("mount: bind source path does not exist on this node: /nope".into()));
        }
        let fake = Fake { launch: launch.clone(), reality: watch::Sender::new(Reality::Created) };
        let before = self.state().containers.insert(launch.task, fake);
        assert!(before.is_none(), "container {} made twice", launch.task);
        Ok(())
    }

    fn start(&self, task: TaskId) -> Result<u32, ContainerError> {
        self.did("start", task);
        let mut state = self.state();
        state.next_pid += 1;
        let pid = state.next_pid;
        let fake = &state.containers[&task];
        let reality = match fake.launch.arguments[0].as_str() {
            "broken" => return Err(ContainerError("executing the program: no such file".into())),
            "exit" => Reality::Ended { exit: Exit::Code(fake.launch.arguments[1].parse().unwrap()) },
            _ => Reality::Running { pid },
        };
        fake.reality.send_replace(reality);
        Ok(pid)
    }

    fn inspect(&self, task: TaskId) -> Reality {
        self.state().containers.get(&task).map_or(Reality::Absent, |fake| fake.reality.borrow().clone())
    }

    fn ask_to_stop(&self, task: TaskId) -> Result<(), ContainerError> {
        self.did("stop", task);
        // It may have been deleted meanwhile.
        if let Some(fake) = self.state().containers.get(&task)
            && fake.launch.arguments[0] != "stubborn"
        {
            fake.reality.send_replace(Reality::Ended { exit: Exit::Signal(15) });
        }
        Ok(())
    }

    fn kill(&self, task: TaskId) -> Result<(), ContainerError> {
        self.did("kill", task);
        if let Some(fake) = self.state().containers.get(&task) {
            fake.reality.send_replace(Reality::Ended { exit: Exit::Signal(9) });
        }
        Ok(())
    }

    fn execute(&self, task: TaskId, command: &[String], _: Duration) -> Result<Executed, ContainerError> {
        self.did("check", task);
        if command[0] == "refuse" {
            return Err(ContainerError("played: not executable".into()));
        }
        let answer = self.state().answers.get_mut(&task).and_then(VecDeque::pop_front);
        Ok(answer.unwrap_or(Executed { code: Some(0), output: String::new() }))
    }

    fn delete(&self, task: TaskId) -> Result<(), ContainerError> {
        self.did("delete", task);
        let sticks =
            self.state().containers.get(&task).is_some_and(|fake| fake.launch.arguments[0] == "sticky");
        if sticks && self.count("delete", task) == 1 {
            return Err(ContainerError("played: busy".into()));
        }
        self.state().containers.remove(&task);
        Ok(())
    }

    fn recover(&self) -> Result<Vec<Found>, ContainerError> {
        let state = self.state();
        let found = |(task, fake): (&TaskId, &Fake)| Found {
            task: *task,
            reality: fake.reality.borrow().clone(),
            labels: BTreeMap::from_iter(fake.launch.labels.clone()),
        };
        Ok(state.containers.iter().map(found).collect())
    }

    fn wait(&self, task: TaskId) -> BoxFuture<'static, Exit> {
        self.did("wait", task);
        let panics =
            self.state().containers.get(&task).is_some_and(|fake| fake.launch.arguments[0] == "panic");
        assert!(!panics || self.count("wait", task) > 1, "played panic");
        let receiver = self.state().containers.get(&task).map(|fake| fake.reality.subscribe());
        async move {
            let Some(mut receiver) = receiver else { return Exit::Unknown };
            match receiver
                .wait_for(|reality| matches!(reality, Reality::Ended { .. }))
                .await
                .map(|reality| reality.clone())
            {
                Ok(Reality::Ended { exit }) => exit,
                _ => Exit::Unknown,
            }
        }
        .boxed()
    }

    /// Each log has two lines.
    fn open_log(&self, query: &LogQuery) -> Result<Box<dyn LogSource>, ContainerError> {
        let line = |time, text: &'static str| Line {
            task: query.task,
            time,
            is_error_stream: false,
            text: text.into(),
            partial: false,
        };
        Ok(Box::new(TwoLines(vec![line(2, "second"), line(1, "first")])))
    }
}

struct TwoLines(Vec<Line>);

impl LogSource for TwoLines {
    fn next_line(&mut self) -> Result<Option<Line>, ContainerError> {
        Ok(self.0.pop())
    }
}
