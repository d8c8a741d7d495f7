//! What a runner waits for: each job ends with the input that it becomes. Dropping one gives it up.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::health::{HealthCheck, HealthResult};
use coracle_model::task::DesiredState;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join, try_join_all};
use tokio::sync::watch;
use tokio::time::Instant;

use super::container::{Begun, begin};
use super::{PANICKED, Runner, Workshop, blocking};
use crate::adapters::containers::Executed;
use crate::assignments::Assignment;
use crate::launch::Launch;
use crate::task::fsm::Input;

impl Runner {
    /// Has the images and the files here.
    pub(super) fn fetch(&mut self) {
        let spec = match &self.assignment.spec {
            Ok(spec) => spec,
            Err(problem) => {
                let problem = problem.clone();
                self.job = Some(async move { Input::Fetched(Err(problem)) }.boxed());
                return;
            }
        };
        let fetch = self.workshop.fetcher.ensure(spec.container.image.digest);
        let mounted: Vec<_> = spec
            .container
            .images()
            .skip(1)
            .map(|image| self.workshop.fetcher.ensure(image.digest).done)
            .collect();
        let files = self.workshop.files.arrived(&spec.container.files);
        let here = self.workshop.files.has(&spec.container.files);
        let (told, waiting) = watch::channel(String::new());
        self.progress = Some(if here { fetch.progress } else { waiting });
        self.job = Some(
            async move {
                if !here {
                    told.send_replace("waiting for a manager to send its secrets and configs".to_owned());
                    files.await;
                }
                let fetched = join(fetch.done, try_join_all(mounted)).await;
                Input::Fetched(fetched.0.and(fetched.1.map(drop)))
            }
            .boxed(),
        );
    }

    /// Makes the container.
    pub(super) fn create(&self, leftovers: bool) -> BoxFuture<'static, Input> {
        let (workshop, assignment) = (Arc::clone(&self.workshop), Arc::clone(&self.assignment));
        let references = assignment.spec.as_ref().map_or(&[][..], |spec| &spec.container.files);
        let (files, mut wish) = (workshop.files.arrived(references), self.wish.clone());
        async move {
            // A task that this node starts again may have to wait for a manager, after a restart of the daemon.
            tokio::select! {
                () = files => {}
                _ = wish.wait_for(|wish| wish.desired > DesiredState::Running) => {}
            }
            Input::Created(make(workshop, assignment, leftovers).await)
        }
        .boxed()
    }

    /// Starts it.
    pub(super) fn start(&self) -> BoxFuture<'static, Input> {
        let (workshop, task) = (Arc::clone(&self.workshop), self.assignment.id);
        async move {
            let containers = Arc::clone(&workshop.containers);
            let started = workshop.creations.work(move || containers.start(task)).await;
            Input::Started(match started {
                Some(Ok(pid)) => Ok(pid),
                Some(Err(error)) => Err(error.to_string()),
                None => Err(PANICKED.to_owned()),
            })
        }
        .boxed()
    }

    /// Runs its health check.
    pub(super) fn check(&self, command: Vec<String>, timeout: Duration) -> BoxFuture<'static, Input> {
        let (workshop, task) = (Arc::clone(&self.workshop), self.assignment.id);
        async move {
            // The semaphore is never closed.
            let _permit = Arc::clone(&workshop.checks).acquire_owned().await;
            let (started_at, began) = (workshop.now(), Instant::now());
            let containers = Arc::clone(&workshop.containers);
            let ended = blocking(move || containers.execute(task, &command, timeout)).await;
            let Executed { code, output } = match ended {
                Some(Ok(executed)) => executed,
                Some(Err(error)) => Executed { code: None, output: error.to_string() },
                None => Executed { code: None, output: PANICKED.to_owned() },
            };
            Input::Checked(HealthResult { started_at, took: began.elapsed(), code, output })
        }
        .boxed()
    }
}

/// Makes the container; returns how it is checked. Filling a new volume may take long, and so may waiting for whoever fills it:
/// only those that have volumes wait for that.
async fn make(
    workshop: Arc<Workshop>,
    assignment: Arc<Assignment>,
    leftovers: bool,
) -> Result<Option<HealthCheck>, String> {
    let (launch, check) = {
        let begun = Arc::clone(&workshop);
        match made(workshop.creations.work(move || begin(&begun, &assignment, leftovers)).await)? {
            Begun::Made(check) => return Ok(check),
            Begun::WithVolumes(launch, check) => (Arc::<Launch>::from(launch), check),
        }
    };
    {
        // The semaphore is never closed.
        let _permit = workshop.fills.acquire().await;
        let (containers, launch) = (Arc::clone(&workshop.containers), Arc::clone(&launch));
        made(blocking(move || containers.prepare(&launch).map_err(|error| error.to_string())).await)?;
    }
    let containers = Arc::clone(&workshop.containers);
    let create = move || containers.create(&launch).map_err(|error| error.to_string());
    made(workshop.creations.work(create).await)?;
    Ok(check)
}

fn made<T>(outcome: Option<Result<T, String>>) -> Result<T, String> {
    outcome.unwrap_or_else(|| Err(PANICKED.to_owned()))
}
