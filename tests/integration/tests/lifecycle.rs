//! The life of a service: it converges, is scaled, updated slot by slot, and removed without a trace.

use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, Name, W1, W2};

#[test]
fn a_service_converges_changes_and_leaves_nothing() {
    harness::test("lifecycle", 3, 2, |lab| {
        // Not detached: the command returns when it has converged. Loaded on m1 only: the others fetch the image.
        let id = lab
            .cli(M1, "service create --name web --replicas 5 --label tier=front responder:1 sleep")
            .ok()?;
        let view = lab.view()?;
        anyhow::ensure!(view.settled("web", 5), "create returns when all run:\n{view}");
        for name in lab.names() {
            anyhow::ensure!(
                view.running_on("web", &name.to_string()) == 1,
                "spread over five nodes:\n{view}"
            );
        }
        let short = id.get(..10).unwrap_or(&id);
        for reference in [&id, "web", short] {
            let json: serde_json::Value =
                serde_json::from_str(&lab.cli(M2, &format!("service inspect {reference}")).ok()?)?;
            anyhow::ensure!(json.as_array().is_some_and(|list| list.len() == 1), "{json}");
        }
        let listed = lab.cli(M2, "service ls").ok()?;
        anyhow::ensure!(
            listed.contains("web") && listed.contains("5/5") && listed.contains("responder:1"),
            "{listed}"
        );
        let quiet = lab.cli(M2, "service ls -q").ok()?;
        anyhow::ensure!(id.starts_with(quiet.trim()), "{quiet}");
        anyhow::ensure!(lab.cli(M2, "service ps web").ok()?.contains("Running"));

        lab.cli(M2, "service scale web=8").ok()?;
        let grown = lab.eventually("eight run", |view| view.settled("web", 8))?.running_ids("web");
        lab.cli(M2, "service scale web=4").ok()?;
        let kept = lab.eventually("four run", |view| view.settled("web", 4))?.running_ids("web");
        anyhow::ensure!(kept.is_subset(&grown), "scaling down replaces nothing");

        // What does not concern containers disturbs none of them.
        lab.cli(M1, "service update --label-add tier=back web").ok()?;
        lab.stays("the same tasks", Duration::from_secs(1), |view| view.running_ids("web") == kept)?;

        update_goes_slot_by_slot(lab, &kept)?;

        lab.cli(M1, "service rm web").ok()?;
        lab.eventually("no task is left", |view| {
            view.tasks_of("web").count() == 0 && view.services.is_empty()
        })?;
        lab.until("no container is left", |lab| {
            let left = lab.names().into_iter().map(|name| Ok(lab.get(name)?.other_processes()?.len()));
            Ok(left.sum::<anyhow::Result<usize>>()? == 0)
        })?;
        for name in lab.names() {
            let parent = lab.get(name)?.cgroup_parent();
            anyhow::ensure!(
                coracle_integration::cgroup::processes(parent).is_empty(),
                "{name} has processes in cgroups"
            );
        }
        image_is_kept_while_used(lab)
    });
}

fn update_goes_slot_by_slot(lab: &Lab, old: &std::collections::BTreeSet<String>) -> anyhow::Result<()> {
    lab.cli(M1, "service update --detach --env-add ROUND=2 web").ok()?;
    let mut fewest = usize::MAX;
    lab.eventually_within("all four are new", FORM_DEADLINE, |view| {
        fewest = fewest.min(view.running("web"));
        view.settled("web", 4) && view.running_ids("web").is_disjoint(old)
    })?;
    anyhow::ensure!(fewest >= 3, "one at a time: at some time only {fewest} of 4 ran");
    // Forced: the same specification, all containers anew.
    let before = lab.view()?.running_ids("web");
    lab.cli(M1, "service update --detach --force web").ok()?;
    lab.eventually_within("all four are new again", FORM_DEADLINE, |view| {
        view.settled("web", 4) && view.running_ids("web").is_disjoint(&before)
    })?;
    Ok(())
}

/// Files and folders under the node's images: blobs, unpacked layers, records.
fn image_files(lab: &Lab, name: Name) -> anyhow::Result<usize> {
    let images = lab.get(name)?.folders().data().join("images");
    let mut files = 0;
    for part in ["blobs/sha256", "layers", "images"] {
        files += std::fs::read_dir(images.join(part))?.count();
    }
    Ok(files)
}

fn image_is_kept_while_used(lab: &mut Lab) -> anyhow::Result<()> {
    // A manager and a worker that keep what is not needed for a moment only.
    for name in [M2, W2] {
        lab.node(name).stop_daemon()?;
        lab.node(name).set_environment(&[("CORACLE_IMAGE_GRACE", "300ms")]);
        lab.start_daemon(name)?;
    }
    lab.cli(M1, "service create --name far --constraint node.hostname==w2 responder:1 sleep").ok()?;
    lab.eventually("it runs on w2, which fetched the image", |view| view.running_on("far", "w2") == 1)?;
    anyhow::ensure!(lab.cli(M2, "image ls").ok()?.contains("responder"));
    lab.cli(M1, "image rm responder:1").refused(&["far"])?;
    lab.cli(M1, "service rm far").ok()?;
    lab.eventually("it is gone", |view| view.services.is_empty() && view.tasks.is_empty())?;
    // The image table names it: nobody lets it go.
    lab.stays("no task is there", Duration::from_millis(1500), |view| view.tasks.is_empty())?;
    anyhow::ensure!(image_files(lab, W2)? > 0 && image_files(lab, M2)? > 0, "a named image is kept");
    lab.cli(M1, "image rm responder:1").ok()?;
    lab.cli(M1, "service create --name again responder:1").refused(&["responder:1"])?;
    lab.until("the disk of m2 and w2 is free of it", |lab| {
        Ok(image_files(lab, M2)? == 0 && image_files(lab, W2)? == 0)
    })?;
    anyhow::ensure!(image_files(lab, W1)? > 0, "the grace of the others is an hour");
    lab.cli(W1, "swarm leave").ok()?;
    anyhow::ensure!(image_files(lab, W1)? == 0, "who leaves takes no images along");
    anyhow::ensure!(lab.get(W2)?.daemon().is_some());
    Ok(())
}
