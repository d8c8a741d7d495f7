//! Every meaning of failure and of cancellation.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const GRACE: Duration = Duration::from_secs(10);

fn tasks() -> (Shutdown, Tasks) {
    let shutdown = Shutdown::new();
    (shutdown.clone(), Tasks::new(shutdown))
}

fn refuse(text: &'static str) -> Result<(), BoxError> {
    Err(text.into())
}

#[tokio::test]
async fn a_logged_failure_leaves_the_process_running() {
    let (shutdown, tasks) = tasks();
    tasks.spawn("one", OnError::Log, OnCancel::Finish, |_| async { refuse("no") });
    while !tasks.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_triggered());
    tasks.finish(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_failure_or_panic_that_stops_the_process_is_reported() {
    for panics in [false, true] {
        let (shutdown, tasks) = tasks();
        tasks.spawn("raft log", OnError::StopProcess, OnCancel::Finish, move |_| async move {
            assert!(!panics, "the secret is 42");
            refuse("disk is gone")
        });
        shutdown.triggered().await;
        let error = tasks.finish(GRACE).await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        assert!(text.contains("task raft log"), "{text}");
        assert!(text.contains(if panics { "panicked" } else { "disk is gone" }), "{text}");
        assert!(!text.contains("42"), "{text}");
    }
}

#[tokio::test]
async fn a_panic_while_the_body_is_made_is_caught_too() {
    let (shutdown, tasks) = tasks();
    #[expect(unreachable_code, reason = "the type of the body is wanted")]
    tasks.spawn("one", OnError::StopProcess, OnCancel::Abort, |_| {
        panic!("at once");
        async { refuse("never") }
    });
    shutdown.triggered().await;
    assert!(matches!(tasks.finish(GRACE).await, Err(FinishError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_task_runs_until_it_ends_well() {
    let (_, tasks) = tasks();
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    tasks.spawn_restarting("one", BackoffPolicy::default(), OnCancel::Finish, move |_| {
        let run = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            match run {
                0 => refuse("no"),
                1 => panic!("no"),
                _ => Ok(()),
            }
        }
    });
    while !tasks.running().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn cancellation_ends_the_delay_between_runs() {
    let (_, tasks) = tasks();
    let policy = BackoffPolicy { first: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    tasks.spawn_restarting("one", policy, OnCancel::Finish, |_| async { refuse("no") });
    tokio::time::sleep(Duration::from_secs(1)).await;
    tasks.finish(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancellation_drops_some_tasks_and_awaits_others() {
    let (shutdown, tasks) = tasks();
    let finished = Arc::new(AtomicU32::new(0));
    let writer = Arc::clone(&finished);
    tasks.spawn("dropped", OnError::Log, OnCancel::Abort, |_| async {
        std::future::pending::<()>().await;
        refuse("never")
    });
    tasks.spawn("finishes", OnError::Log, OnCancel::Finish, move |token| async move {
        token.cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        writer.store(1, Ordering::SeqCst);
        Ok::<(), BoxError>(())
    });
    shutdown.trigger();
    tasks.finish(GRACE).await.unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_end_in_time_is_named() {
    let (_, tasks) = tasks();
    tasks.spawn("stuck", OnError::Log, OnCancel::Finish, |_| async {
        std::future::pending::<()>().await;
        refuse("never")
    });
    let text = tasks.finish(GRACE).await.unwrap_err().to_string();
    assert_eq!(text, "still running after 10 s of grace: stuck");
}

#[tokio::test(start_paused = true)]
async fn a_group_ends_alone_and_its_parent_waits_for_it() {
    let (shutdown, tasks) = tasks();
    let leading = tasks.group();
    let body = |token: CancellationToken| async move {
        token.cancelled().await;
        Ok::<(), BoxError>(())
    };
    tasks.spawn("outer", OnError::Log, OnCancel::Finish, body);
    leading.spawn("inner", OnError::Log, OnCancel::Finish, body);
    assert_eq!(tasks.running(), ["outer", "inner"]);
    leading.finish(GRACE).await.unwrap();
    assert_eq!(tasks.running(), ["outer"]);
    assert!(!shutdown.is_triggered());

    let stuck = tasks.group();
    stuck.spawn("stuck", OnError::Log, OnCancel::Finish, |_| async {
        std::future::pending::<()>().await;
        refuse("never")
    });
    let text = tasks.finish(GRACE).await.unwrap_err().to_string();
    assert!(text.ends_with(": stuck"), "{text}");
}

#[tokio::test]
async fn a_failure_in_a_group_stops_the_whole_process() {
    let (shutdown, tasks) = tasks();
    tasks.group().spawn("inner", OnError::StopProcess, OnCancel::Finish, |_| async { refuse("no") });
    shutdown.triggered().await;
    assert!(matches!(tasks.finish(GRACE).await, Err(FinishError::Failed(_))));
}
