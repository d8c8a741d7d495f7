//! The behaviours: how each begins, when it is half done, what always holds, and what it comes to.

use std::time::Duration;

use anyhow::{Result, ensure};
use coracle_integration::lab::Lab;
use coracle_integration::name::M1;
use coracle_integration::view::{Task, View, number};
use coracle_model::task::TaskState;
use coracle_proto::v1::UpdateState;

use crate::seen::{
    all_run, at_least, completed, completions, ids, ids_on, new_running, not_ended, update, wanted,
};

/// Something that an operator may ask for.
pub(crate) struct Behaviour {
    /// In words.
    pub(crate) what: &'static str,
    /// The service that it is about.
    pub(crate) service: &'static str,
    /// Lines that are typed before it.
    pub(crate) prepare: &'static [&'static str],
    /// Tasks that run then.
    pub(crate) runs: usize,
    /// Lines that begin it.
    pub(crate) begin: &'static [&'static str],
    /// Whether it is half done, or more, as on a slow machine. The first look is the one before it began.
    pub(crate) middle: fn(&View, &View) -> bool,
    /// What is wrong, if anything is, at any time.
    pub(crate) always: fn(&View, &View) -> Option<String>,
    /// Whether it has come to its end.
    pub(crate) end: fn(&View, &View) -> bool,
    /// What must be true after.
    pub(crate) after: fn(&Lab, &View, &View) -> Result<()>,
    /// Lines that clean up.
    pub(crate) clean: &'static [&'static str],
}

/// In the order in which they are gone through; some go on with the service of the one before.
pub(crate) const ALL: &[Behaviour] = &[
    UPDATE_STOP_FIRST,
    MANUAL_ROLLBACK,
    UPDATE_START_FIRST,
    UPDATE_THAT_IS_UNHEALTHY,
    AUTOMATIC_ROLLBACK,
    REPLICATED_JOB,
    GLOBAL_JOB,
    SCALE_UP,
    SCALE_DOWN,
    SERVICE_REMOVED,
    SECRET,
    ATTEMPTS,
    PLACEMENT,
    PAUSE,
    DRAIN,
];

const fn nothing(_: &Lab, _: &View, _: &View) -> Result<()> {
    Ok(())
}

const UPDATE_STOP_FIRST: Behaviour = Behaviour {
    what: "update, stop-first",
    service: "web",
    prepare: &[
        "service create --detach --name web --replicas 6 --constraint node.role==worker --restart-delay 100ms \
         --update-parallelism 2 --update-monitor 300ms --rollback-parallelism 3 --rollback-monitor 300ms \
         --health-start-interval 100ms --health-interval 60s --env ROUND=1 slow:1 sleep",
    ],
    runs: 6,
    begin: &["service update --detach --env-add ROUND=2 web"],
    middle: |before, view| new_running(before, view, "web") >= 2,
    always: |_, view| at_least(view, "web", 4),
    end: |_, view| update(view, "web") == Some((UpdateState::Completed, 0)) && view.settled("web", 6),
    after: |lab, before, view| {
        ensure!(new_running(before, view, "web") == 6, "all are new:\n{view}");
        ensure!(lab.cli(M1, "service inspect --pretty web").ok()?.contains("ROUND=2"));
        Ok(())
    },
    clean: &[],
};

const MANUAL_ROLLBACK: Behaviour = Behaviour {
    what: "rollback by hand",
    service: "web",
    prepare: &[],
    runs: 6,
    begin: &["service rollback --detach web"],
    middle: |before, view| new_running(before, view, "web") >= 3,
    always: |_, view| at_least(view, "web", 3),
    end: |_, view| update(view, "web") == Some((UpdateState::RollbackCompleted, 0)) && view.settled("web", 6),
    after: |lab, before, view| {
        ensure!(new_running(before, view, "web") == 6, "all are new:\n{view}");
        ensure!(lab.cli(M1, "service inspect --pretty web").ok()?.contains("ROUND=1"));
        Ok(())
    },
    clean: &["service rm web"],
};

const UPDATE_START_FIRST: Behaviour = Behaviour {
    what: "update, start-first",
    service: "front",
    prepare: &[
        "service create --detach --name front --replicas 6 --constraint node.role==worker --restart-delay 100ms \
         --update-parallelism 2 --update-monitor 300ms --update-order start-first --health-start-interval 100ms \
         --health-interval 400ms slow:1 sleep",
    ],
    runs: 6,
    begin: &["service update --detach --env-add ROUND=2 front"],
    middle: |before, view| new_running(before, view, "front") >= 2,
    always: |_, view| at_least(view, "front", 6),
    end: |_, view| update(view, "front") == Some((UpdateState::Completed, 0)) && view.settled("front", 6),
    after: |_, before, view| {
        ensure!(new_running(before, view, "front") == 6, "all are new:\n{view}");
        Ok(())
    },
    clean: &[],
};

const UPDATE_THAT_IS_UNHEALTHY: Behaviour = Behaviour {
    what: "update to what is unhealthy",
    service: "front",
    prepare: &[],
    runs: 6,
    begin: &["service update --detach --image sick:1 --update-parallelism 1 front"],
    middle: |before, view| {
        let begun = |task: &Task| task.state >= number(TaskState::Starting);
        view.tasks_of("front").any(|task| begun(task) && !ids(before, "front").contains(&task.id))
    },
    always: |before, view| all_run(view, "front", &before.running_ids("front")),
    end: |_, view| update(view, "front") == Some((UpdateState::Paused, 1)),
    after: |lab, before, view| {
        ensure!(new_running(before, view, "front") == 0, "nothing unhealthy counts as running:\n{view}");
        lab.stays("a paused update stays so", Duration::from_millis(500), |view| {
            update(view, "front") == Some((UpdateState::Paused, 1))
        })
    },
    clean: &["service rm front"],
};

const AUTOMATIC_ROLLBACK: Behaviour = Behaviour {
    what: "rollback by itself",
    service: "back",
    prepare: &[
        "service create --detach --name back --replicas 6 --constraint node.role==worker --restart-delay 100ms \
         --update-parallelism 4 --update-failure-action rollback --update-monitor 300ms --rollback-monitor 1500ms \
         --health-start-interval 100ms --health-interval 60s slow:1 sleep",
    ],
    runs: 6,
    begin: &["service update --detach --args 'exit 3' back"],
    middle: |_, view| {
        let state = update(view, "back").map(|(state, _)| state);
        matches!(state, Some(UpdateState::RollbackStarted | UpdateState::RollbackCompleted))
    },
    always: |_, view| at_least(view, "back", 2),
    end: |_, view| {
        update(view, "back") == Some((UpdateState::RollbackCompleted, 0)) && view.settled("back", 6)
    },
    after: |_, before, view| {
        ensure!(new_running(before, view, "back") == 4, "two were never touched:\n{view}");
        Ok(())
    },
    clean: &["service rm back"],
};

const REPLICATED_JOB: Behaviour = Behaviour {
    what: "replicated job",
    service: "sum",
    prepare: &[],
    runs: 0,
    begin: &[
        "service create --detach --name sum --mode replicated-job --replicas 8 --max-concurrent 2 --restart-delay 100ms \
         --constraint node.role==worker responder:1 exit 0 0.8",
    ],
    middle: |_, view| completed(view, "sum").0 >= 3,
    always: |_, view| {
        let beside = not_ended(view, "sum");
        (beside > 2).then(|| format!("{beside} tasks at a time, and at most 2 are allowed"))
    },
    end: |_, view| completed(view, "sum") == (8, 8) && not_ended(view, "sum") == 0,
    after: |_, _, view| {
        let counts = completions(view, "sum");
        ensure!(
            counts.len() == 8 && counts.values().all(|count| *count == 1),
            "each once: {counts:?}\n{view}"
        );
        ensure!(view.tasks_of("sum").count() == 8, "nothing was done in vain:\n{view}");
        Ok(())
    },
    clean: &["service rm sum"],
};

const GLOBAL_JOB: Behaviour = Behaviour {
    what: "global job",
    service: "fix",
    prepare: &[],
    runs: 0,
    begin: &[
        "service create --detach --name fix --mode global-job --restart-delay 100ms responder:1 exit 0 2",
    ],
    // Also on the node whose daemon is killed: its container ends without anybody to see it.
    middle: |_, view| {
        let begun = |task: &&Task| task.state >= number(TaskState::Running);
        view.tasks_of("fix").filter(begun).count() >= 3
    },
    always: |_, _| None,
    end: |_, view| completed(view, "fix") == (5, 5) && not_ended(view, "fix") == 0,
    after: |_, _, view| {
        let counts = completions(view, "fix");
        ensure!(
            counts.len() == 5 && counts.values().all(|count| *count == 1),
            "each once: {counts:?}\n{view}"
        );
        Ok(())
    },
    clean: &["service rm fix"],
};

const SCALE_UP: Behaviour = Behaviour {
    what: "scale up",
    service: "crowd",
    prepare: &[
        "service create --detach --name crowd --replicas 2 --constraint node.role==worker --stop-grace-period 2s \
         --health-start-interval 100ms --health-interval 60s slow:1 ignore-term",
    ],
    runs: 2,
    begin: &["service scale --detach crowd=8"],
    middle: |_, view| wanted(view, "crowd") == 8,
    always: |before, view| all_run(view, "crowd", &before.running_ids("crowd")),
    end: |_, view| view.settled("crowd", 8),
    after: |_, _, view| {
        ensure!(view.tasks_of("crowd").count() == 8, "none was made twice:\n{view}");
        Ok(())
    },
    clean: &[],
};

const SCALE_DOWN: Behaviour = Behaviour {
    what: "scale down",
    service: "crowd",
    prepare: &[],
    runs: 8,
    begin: &["service scale --detach crowd=3"],
    middle: |_, view| wanted(view, "crowd") == 3,
    always: |_, view| at_least(view, "crowd", 3),
    end: |_, view| view.settled("crowd", 3) && view.tasks_of("crowd").count() == 3,
    after: |_, before, view| {
        ensure!(view.running_ids("crowd").is_subset(&before.running_ids("crowd")), "none is new:\n{view}");
        Ok(())
    },
    clean: &[],
};

const SERVICE_REMOVED: Behaviour = Behaviour {
    what: "service rm",
    service: "crowd",
    prepare: &[],
    runs: 3,
    begin: &["service rm crowd"],
    middle: |_, view| view.services.is_empty(),
    always: |_, _| None,
    end: |_, view| view.services.is_empty() && view.tasks.is_empty(),
    after: nothing,
    clean: &[],
};

const SECRET: Behaviour = Behaviour {
    what: "secret that is changed",
    service: "safe",
    prepare: &[
        "secret create key FOLDER/first",
        "service create --detach --name safe --replicas 4 --constraint node.role==worker --secret key \
         --update-parallelism 1 --update-monitor 300ms --health-start-interval 100ms --health-interval 60s slow:1 sleep",
    ],
    runs: 4,
    begin: &["secret update key FOLDER/second"],
    middle: |before, view| new_running(before, view, "safe") >= 1,
    always: |_, view| at_least(view, "safe", 3),
    end: |_, view| update(view, "safe") == Some((UpdateState::Completed, 0)) && view.settled("safe", 4),
    after: |lab, before, view| {
        ensure!(new_running(before, view, "safe") == 4, "all are new:\n{view}");
        for task in view.tasks_of("safe").filter(|task| task.is_running()) {
            let node = lab.get(lab.by_hostname(&task.node)?)?;
            let process = node.process(task.pid)?.map_or(0, |process| process.pid);
            let text = std::fs::read_to_string(format!("/proc/{process}/root/run/secrets/key"))?;
            ensure!(text == "second", "{task:?} has {text:?}");
        }
        Ok(())
    },
    clean: &["service rm safe", "secret rm key"],
};

const ATTEMPTS: Behaviour = Behaviour {
    what: "attempts of the restart policy",
    service: "thrice",
    prepare: &[],
    runs: 0,
    begin: &["service create --detach --name thrice --restart-max-attempts 3 --restart-delay 500ms \
         --constraint node.role==worker responder:1 crash-after 0.6"],
    middle: |_, view| view.tasks_of("thrice").filter(|task| task.is_terminal()).count() >= 2,
    always: |_, view| {
        let made = starts(view);
        (made > 4).then(|| format!("started {made} times, and 1 + 3 are allowed"))
    },
    end: |_, view| starts(view) == 4 && not_ended(view, "thrice") == 0,
    after: |lab, _, _| {
        lab.stays("there is no other attempt", Duration::from_millis(1500), |view| {
            starts(view) == 4 && not_ended(view, "thrice") == 0
        })
    },
    clean: &["service rm thrice"],
};

/// Starts of the only slot, also those that its agent made while there was no leader to ask.
fn starts(view: &View) -> usize {
    view.tasks_of("thrice").map(|task| 1 + task.local_restarts as usize).sum()
}

const PLACEMENT: Behaviour = Behaviour {
    what: "constraint that is added",
    service: "tied",
    prepare: &[
        "service create --detach --name tied --replicas 6 --constraint node.role==worker --update-monitor 300ms \
         --health-start-interval 100ms --health-interval 60s slow:1 sleep",
    ],
    runs: 6,
    begin: &["service update --detach --constraint-add node.hostname==w2 tied"],
    middle: |before, view| view.tasks_of("tied").any(|task| !ids(before, "tied").contains(&task.id)),
    // One at a time, as in every update.
    always: |before, view| {
        all_run(view, "tied", &ids_on(before, "tied", "w2")).or_else(|| at_least(view, "tied", 5))
    },
    end: |_, view| view.running_on("tied", "w2") == 6 && view.settled("tied", 6),
    after: |_, before, view| {
        ensure!(new_running(before, view, "tied") == 3, "those that fit were left alone:\n{view}");
        Ok(())
    },
    clean: &["service rm tied"],
};

const PAUSE: Behaviour = Behaviour {
    what: "node that is paused",
    service: "calm",
    prepare: &[
        "service create --detach --name calm --replicas 4 --constraint node.role==worker --update-order start-first \
         --health-start-interval 100ms --health-interval 60s slow:1 sleep",
    ],
    runs: 4,
    begin: &["node update --availability pause w1", "service scale --detach calm=8"],
    middle: |_, view| wanted(view, "calm") == 8,
    always: |before, view| {
        let elsewhere =
            view.tasks_of("calm").any(|task| task.node == "w1" && !ids(before, "calm").contains(&task.id));
        let disturbed = all_run(view, "calm", &before.running_ids("calm"));
        disturbed.or_else(|| elsewhere.then(|| "a paused node got a task".to_owned()))
    },
    end: |_, view| view.settled("calm", 8) && view.running_on("calm", "w1") == 2,
    after: nothing,
    clean: &["node update --availability active w1"],
};

const DRAIN: Behaviour = Behaviour {
    what: "drain, start-first",
    service: "calm",
    prepare: &[],
    runs: 8,
    begin: &["node update --availability drain w2"],
    middle: |before, view| {
        let moved = |task: &&Task| task.node == "w1" && !ids(before, "calm").contains(&task.id);
        view.tasks_of("calm").any(|task| moved(&task))
    },
    always: |_, view| at_least(view, "calm", 8),
    end: |_, view| view.running_on("calm", "w1") == 8 && view.settled("calm", 8),
    after: |_, before, view| {
        ensure!(new_running(before, view, "calm") == 6, "only those of w2 moved:\n{view}");
        Ok(())
    },
    clean: &["node update --availability active w2", "service rm calm"],
};
