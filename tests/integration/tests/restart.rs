//! What follows an exit: the restart policy, its delay and attempts, and statuses that tell the truth.

use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::M1;
use coracle_proto::v1::exit::How;

#[test]
fn exits_are_told_and_replaced_by_policy() {
    harness::test("restart", 1, 1, |lab| {
        policy_decides(lab)?;
        attempts_are_counted(lab)?;
        memory_limit_is_told(lab)?;
        stop_grace_is_kept(lab)
    });
}

fn create(lab: &Lab, name: &str, flags: &str, arguments: &str) -> anyhow::Result<()> {
    lab.cli(M1, &format!("service create --detach --name {name} {flags} responder:1 {arguments}")).ok()?;
    Ok(())
}

fn policy_decides(lab: &Lab) -> anyhow::Result<()> {
    create(lab, "again", "--restart-delay 100ms", "exit 3")?;
    create(lab, "done", "--restart-condition on-failure --restart-delay 100ms", "exit 0")?;
    create(lab, "once", "--restart-condition none", "exit 4")?;
    lab.eventually("a failing one is tried again and again", |view| {
        view.tasks_of("again").filter(|task| task.exit_code() == Some(3)).count() >= 3
    })?;
    let view = lab.eventually("the others have ended", |view| {
        ["done", "once"].into_iter().all(|name| view.tasks_of(name).any(|task| task.is_terminal()))
    })?;
    anyhow::ensure!(view.tasks_of("done").all(|task| task.exit_code() == Some(0)), "{view}");
    lab.stays("and are left so", Duration::from_secs(1), |view| {
        view.tasks_of("done").count() == 1 && view.tasks_of("once").count() == 1
    })?;
    let told = lab.cli(M1, "service ps --no-trunc once").ok()?;
    anyhow::ensure!(told.contains("Failed") && told.contains("exit status 4"), "{told}");
    lab.cli(M1, "service rm again done once").ok()?;
    Ok(())
}

fn attempts_are_counted(lab: &Lab) -> anyhow::Result<()> {
    create(lab, "thrice", "--restart-delay 50ms --restart-max-attempts 2", "exit 1")?;
    let ended = |view: &coracle_integration::view::View| {
        view.tasks_of("thrice").filter(|task| task.is_terminal()).count()
    };
    lab.eventually("one attempt and two more", |view| ended(view) == 3)?;
    lab.stays("and no other", Duration::from_secs(1), |view| view.tasks_of("thrice").count() == 3)?;
    lab.cli(M1, "service rm thrice").ok()?;
    Ok(())
}

fn memory_limit_is_told(lab: &Lab) -> anyhow::Result<()> {
    create(lab, "hog", "--limit-memory 24m --restart-condition none", "allocate 200")?;
    let view =
        lab.eventually("the kernel ends it", |view| view.tasks_of("hog").any(|task| task.is_terminal()))?;
    let task = view.tasks_of("hog").next().ok_or_else(|| anyhow::anyhow!("no task"))?;
    anyhow::ensure!(matches!(task.exit, Some(How::OutOfMemory(_))), "{task:?}");
    anyhow::ensure!(lab.cli(M1, "service ps --no-trunc hog").ok()?.contains("memory"));
    // The limit on processes refuses, it does not kill.
    create(lab, "forks", "--limit-pids 16 --restart-condition none", "fork 100")?;
    lab.until("it says how many it got", |lab| {
        Ok(lab.cli(M1, "service logs forks").ok()?.contains("refused"))
    })?;
    anyhow::ensure!(lab.view()?.running("forks") == 1);
    lab.cli(M1, "service rm hog forks").ok()?;
    Ok(())
}

fn stop_grace_is_kept(lab: &Lab) -> anyhow::Result<()> {
    create(lab, "deaf", "--stop-grace-period 500ms", "ignore-term")?;
    lab.eventually("it runs", |view| view.settled("deaf", 1))?;
    lab.cli(M1, "service rm deaf").ok()?;
    lab.eventually("and is killed after its grace", |view| view.tasks.is_empty())?;
    create(lab, "polite", "--stop-grace-period 1h", "sleep")?;
    lab.eventually("it runs", |view| view.settled("polite", 1))?;
    lab.cli(M1, "service rm polite").ok()?;
    lab.eventually("and ends at once when it is asked", |view| view.tasks.is_empty())?;
    Ok(())
}
