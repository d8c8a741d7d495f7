//! Where tasks go: constraints, drain, global services, limits per node, and why there is no node.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, W1, W3};

#[test]
fn tasks_go_where_they_may() {
    harness::test("placement", 1, 2, |lab| {
        constraints_follow_labels(lab)?;
        drain_moves_tasks_away(lab)?;
        global_follows_nodes(lab)?;
        unschedulable_says_why(lab)?;
        things_are_given_by_name(lab)
    });
}

fn constraints_follow_labels(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "node update --label-add disk=ssd w1").ok()?;
    lab.cli(
        M1,
        "service create --name fast --replicas 2 --constraint node.labels.disk==ssd responder:1 sleep",
    )
    .ok()?;
    let view = lab.view()?;
    anyhow::ensure!(view.running_on("fast", "w1") == 2, "only on w1:\n{view}");
    lab.cli(M1, "node update --label-add disk=ssd w2").ok()?;
    lab.cli(M1, "node update --label-rm disk w1").ok()?;
    lab.eventually("the tasks moved to w2", |view| {
        view.running_on("fast", "w2") == 2 && view.settled("fast", 2)
    })?;
    lab.cli(M1, "service rm fast").ok()?;
    Ok(())
}

fn drain_moves_tasks_away(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name app --replicas 6 --replicas-max-per-node 3 responder:1 sleep").ok()?;
    lab.cli(M1, "node update --availability drain w1").ok()?;
    lab.eventually("w1 is empty", |view| view.running_on("app", "w1") == 0 && view.settled("app", 6))?;
    lab.cli(M1, "node update --availability pause w1").ok()?;
    lab.cli(M1, "service scale --detach app=9").ok()?;
    lab.stays("a paused node gets nothing", Duration::from_secs(1), |view| {
        view.running_on("app", "w1") == 0
    })?;
    lab.cli(M1, "node update --availability active w1").ok()?;
    lab.eventually("an active one does", |view| view.running_on("app", "w1") == 3 && view.settled("app", 9))?;
    lab.cli(M1, "service rm app").ok()?;
    Ok(())
}

fn global_follows_nodes(lab: &mut Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name every --mode global responder:1 sleep").ok()?;
    lab.eventually("one on each", |view| view.settled("every", 3))?;
    let token = lab.cli(M1, "swarm join-token -q worker").ok()?;
    lab.add(W3)?;
    lab.cli(W3, &format!("swarm join --token {token} {}:2377", M1.address())).ok()?;
    lab.eventually("also on the new one", |view| {
        view.running_on("every", "w3") == 1 && view.settled("every", 4)
    })?;
    lab.cli(M1, "node update --availability drain w3").ok()?;
    lab.eventually("not on a drained one", |view| view.settled("every", 3))?;
    lab.cli(M1, "node update --availability active w3").ok()?;
    lab.eventually("on an active one again", |view| view.settled("every", 4))?;
    lab.cli(M1, "service scale every=2").refused(&["replicated"])?;
    lab.cli(M1, "service rm every").ok()?;
    Ok(())
}

fn unschedulable_says_why(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --detach --name huge --reserve-memory 900g responder:1 sleep").ok()?;
    let view = lab.eventually("it says why it waits", |view| {
        view.tasks_of("huge").any(|task| task.waiting.contains("no suitable node"))
    })?;
    anyhow::ensure!(view.tasks_of("huge").any(|task| task.waiting.contains("memory")), "{view}");
    let told = lab.cli(M1, "service ps --no-trunc huge").ok()?;
    anyhow::ensure!(told.contains("no suitable node") && told.contains("of 4"), "{told}");
    lab.cli(M1, "service update --detach --reserve-memory 8m huge").ok()?;
    lab.eventually("it runs once it may", |view| view.settled("huge", 1))?;

    lab.cli(
        M1,
        "service create --detach --name nowhere --constraint node.labels.moon==full responder:1 sleep",
    )
    .ok()?;
    lab.eventually("the constraint is named", |view| {
        view.tasks_of("nowhere").any(|task| task.waiting.contains("constraint"))
    })?;
    lab.cli(M1, "node update --label-add moon=full w2").ok()?;
    lab.eventually("a label that fits lets it run", |view| view.running_on("nowhere", "w2") == 1)?;
    lab.cli(M1, "service rm huge nowhere").ok()?;
    Ok(())
}

/// Two cards on w1: each is one task's, which is told its name and has its device; the third task waits until a card is free.
fn things_are_given_by_name(lab: &mut Lab) -> anyhow::Result<()> {
    let node = lab.node(W1);
    node.stop_daemon()?;
    let folder = node.folders().data().join("cdi");
    write_cards(&folder)?;
    node.set_environment(&[
        ("CORACLE_GENERIC_RESOURCE", "test.example/card=left,test.example/card=right"),
        ("CORACLE_CDI_SPEC_DIR", &folder.display().to_string()),
    ]);
    node.start_daemon()?;
    let options = "--detach --name draw --replicas 3 --generic-resource test.example/card=1";
    lab.cli(M1, &format!("service create {options} responder:1 sleep")).ok()?;
    let view = lab.eventually("two have a card and the third says what it lacks", |view| {
        view.running_on("draw", "w1") == 2
            && view.tasks_of("draw").any(|task| task.waiting.contains("not enough test.example/card"))
    })?;
    let mut given = BTreeSet::new();
    for task in view.tasks_of("draw").filter(|task| task.is_running()) {
        let process = lab.get(W1)?.process(task.pid)?.context("the task has a process")?;
        let variables = std::fs::read(format!("/proc/{}/environ", process.pid))?;
        let variables = String::from_utf8_lossy(&variables).into_owned();
        let value =
            |name: &str| variables.split('\0').find_map(|entry| entry.strip_prefix(name)).map(str::to_owned);
        let card = value("DOCKER_RESOURCE_TEST.EXAMPLE/CARD=");
        anyhow::ensure!(card == value("CORACLE_RESOURCE_TEST_EXAMPLE_CARD="), "{variables:?}");
        anyhow::ensure!(card == value("CARD_OF_DEVICE="), "it has its own device: {variables:?}");
        // What the hook was told of the container.
        let told = std::fs::read_to_string(folder.join(card.as_deref().unwrap_or_default()))?;
        anyhow::ensure!(told.contains(&format!("\"pid\":{},", task.pid)), "{told}");
        given.extend(card);
    }
    let cards = ["left", "right"].map(str::to_owned);
    anyhow::ensure!(given.iter().eq(&cards), "each has its own card, not {given:?}");
    lab.cli(M1, "service scale --detach draw=2").ok()?;
    lab.eventually("two remain, with a card each", |view| view.settled("draw", 2))?;
    lab.cli(M1, "service rm draw").ok()?;
    Ok(())
}

/// A file with two cards, each of which has a variable and a hook.
fn write_cards(folder: &Path) -> anyhow::Result<()> {
    let card = |name: &str| {
        let script = format!("cat > '{}'", folder.join(name).display());
        serde_json::json!({ "name": name, "containerEdits": {
            "env": [format!("CARD_OF_DEVICE={name}")],
            "hooks": [{ "hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", script] }],
        }})
    };
    let file = serde_json::json!({
        "cdiVersion": "0.6.0", "kind": "test.example/card", "devices": [card("left"), card("right")],
    });
    std::fs::create_dir(folder)?;
    Ok(std::fs::write(folder.join("cards.json"), file.to_string())?)
}
