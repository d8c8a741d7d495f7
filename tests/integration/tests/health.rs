//! Health checks: a task runs from its first success on, goes on through a restart of its daemon, and is replaced when it
//! does not serve.

use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name};
use coracle_integration::view::number;
use coracle_integration::{harness, image};
use coracle_model::task::TaskState;

#[test]
fn tasks_are_by_their_checks_what_they_are() {
    harness::test("health", 1, 0, |lab| {
        load(lab, M1, "healthy:1", &["/responder", "exit", "0"])?;
        load(lab, M1, "sick:1", &["/responder", "exit", "7"])?;
        load(lab, M1, "unknown:1", &["/responder", "sleep"])?;
        healthy_goes_on(lab)?;
        unhealthy_is_replaced(lab)
    });
}

fn load(lab: &Lab, name: Name, image: &str, check: &[&str]) -> anyhow::Result<()> {
    let path = lab.folder().join("checked.tar");
    std::fs::write(&path, image::checked_archive(&image::responder_binary()?, image, check)?)?;
    lab.cli(name, &format!("image load -i {}", path.display())).ok()?;
    Ok(())
}

fn create(lab: &Lab, name: &str, image: &str) -> anyhow::Result<()> {
    let flags = "--detach --restart-delay 100ms --stop-grace-period 20s";
    lab.cli(M1, &format!("service create {flags} --name {name} {image} sleep")).ok()?;
    Ok(())
}

/// What the command line says of a task, as JSON.
fn inspect(lab: &Lab, task: &str) -> anyhow::Result<serde_json::Value> {
    let text = lab.cli(M1, &format!("task inspect {task}")).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    Ok(value.get(0).cloned().unwrap_or(value))
}

fn healthy_goes_on(lab: &mut Lab) -> anyhow::Result<()> {
    create(lab, "well", "healthy:1")?;
    // Its check never comes to an end, so it is never said to run.
    create(lab, "unsure", "unknown:1")?;
    let view = lab.eventually("one runs, one starts", |view| {
        let starts = |pid, state| pid != 0 && state == number(TaskState::Starting);
        view.settled("well", 1) && view.tasks_of("unsure").any(|task| starts(task.pid, task.state))
    })?;
    let well = view.tasks_of("well").next().ok_or_else(|| anyhow::anyhow!("no task"))?.clone();
    let health = &inspect(lab, &well.id)?["status"]["health"];
    anyhow::ensure!(health["state"] == "healthy" && health["failures"] == 0, "{health}");
    anyhow::ensure!(health["results"][0]["code"] == 0, "{health}");
    lab.node(M1).kill_daemon()?;
    lab.start_daemon(M1)?;
    lab.wait_answers(M1)?;
    let view = lab.eventually("both are what they were", |view| {
        let starting = |state| state == number(TaskState::Starting);
        view.settled("well", 1) && view.tasks_of("unsure").any(|task| task.pid != 0 && starting(task.state))
    })?;
    let still = view.tasks_of("well").find(|task| task.id == well.id && task.pid == well.pid);
    anyhow::ensure!(still.is_some() && view.tasks_of("well").count() == 1, "{view}");
    lab.cli(M1, "service rm well unsure").ok()?;
    lab.eventually("they are gone", |view| view.tasks.is_empty())?;
    Ok(())
}

fn unhealthy_is_replaced(lab: &Lab) -> anyhow::Result<()> {
    create(lab, "ill", "sick:1")?;
    let view = lab.eventually("it is given up again and again", |view| {
        view.tasks_of("ill").filter(|task| task.state == number(TaskState::Failed)).count() >= 2
    })?;
    anyhow::ensure!(view.tasks_of("ill").all(|task| !task.is_running()), "{view}");
    for task in view.tasks_of("ill").filter(|task| task.is_terminal()) {
        anyhow::ensure!(task.error.starts_with("unhealthy: ") && task.error.contains('7'), "{task:?}");
        let health = &inspect(lab, &task.id)?["status"]["health"];
        anyhow::ensure!(health["state"] == "unhealthy" && health["failures"] == 2, "{health}");
    }
    lab.cli(M1, "service rm ill").ok()?;
    lab.eventually("it is gone", |view| view.tasks.is_empty())?;
    Ok(())
}
