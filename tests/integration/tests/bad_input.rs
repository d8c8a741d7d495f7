//! Bad input: an error that names field and value, and nothing half-applied.

use coracle_integration::archive::{Entry, Tar};
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::M1;

/// A command line, and words that its error must have.
const TABLE: &[(&str, &[&str])] = &[
    ("service create --name a nothing:9", &["nothing:9", "image load"]),
    ("service create --name a UPPER/Case", &["UPPER/Case"]),
    ("service create --name a 'responder:bad tag'", &["bad tag"]),
    ("service create --name a --constraint node.colour==red responder:1", &["constraint", "node.colour"]),
    ("service create --name a --constraint nonsense responder:1", &["constraint", "nonsense"]),
    ("service create --name taken responder:1 sleep", &["taken", "exists"]),
    ("service create --name 'a b' responder:1", &["name", "a b"]),
    ("service create --name -a responder:1", &["-a"]),
    ("service create --name a --replicas -1 responder:1", &["replicas", "-1"]),
    ("service create --name a --replicas many responder:1", &["replicas", "many"]),
    ("service create --name a --replicas 99999999 responder:1", &["replicas", "99999999"]),
    ("service create --name a --mode global --replicas 2 responder:1", &["replicas", "global"]),
    ("service create --name a --limit-memory 1k responder:1", &["limit-memory", "minimum"]),
    ("service create --name a --limit-cpu 0.0001 responder:1", &["limit-cpu", "minimum"]),
    (
        "service create --name a --reserve-memory 2g --limit-memory 1g responder:1",
        &["reserve-memory", "limit"],
    ),
    (
        "service create --name a --mount type=tmpfs,target=/x --mount type=bind,source=/tmp,target=/x/ responder:1",
        &["mount", "/x"],
    ),
    (
        "service create --name a --mount type=bind,source=/tmp,target=relative responder:1",
        &["mount", "relative"],
    ),
    ("service create --name a --mount type=bind,source=/tmp,target=/a/../b responder:1", &["mount", ".."]),
    ("service create --name a --mount type=cloud,target=/x responder:1", &["type", "cloud"]),
    ("service create --name a --env '=x' responder:1", &["env"]),
    ("service create --name a --hostname 'no spaces' responder:1", &["hostname", "no spaces"]),
    ("service create --name a --stop-signal SIGNOTHING responder:1", &["stop-signal", "SIGNOTHING"]),
    ("service create --name a --restart-delay -5s responder:1", &["restart-delay"]),
    (
        "service create --name a --restart-condition sometimes responder:1",
        &["restart-condition", "sometimes"],
    ),
    ("service create --name a --network overlay responder:1", &["network", "overlay"]),
    ("service create --name a", &["IMAGE"]),
    ("service scale taken=-2", &["-2"]),
    ("service scale taken", &["taken"]),
    ("service scale nobody=2", &["nobody"]),
    ("service update --limit-memory 3 taken", &["limit-memory"]),
    ("service update nobody", &["nobody"]),
    ("service rm nobody", &["nobody"]),
    ("service inspect nobody", &["nobody"]),
    ("service logs nobody", &["nobody"]),
    ("node inspect nobody", &["nobody"]),
    ("node update --availability asleep w1", &["availability", "asleep"]),
    ("node update --label-add '=x' w1", &["label"]),
    ("node demote m1", &["last manager"]),
    ("node rm m1", &["m1"]),
    ("node rm w1", &["w1", "down"]),
    ("image load -i /not/there.tar", &["/not/there.tar"]),
    ("image import /not/there.tar a:1", &["/not/there.tar"]),
    ("image rm nothing:9", &["nothing:9"]),
    ("swarm join --token x 10.99.0.11:2377", &["token", "CRCTKN-1-"]),
    ("swarm init", &["already"]),
    ("swarm leave", &["last manager", "force"]),
    ("frobnicate", &["frobnicate"]),
];

#[test]
fn bad_input_is_refused_with_its_field_and_value() {
    harness::test("bad_input", 1, 1, |lab| {
        lab.cli(M1, "service create --name taken responder:1 sleep").ok()?;
        let before = lab.view()?;
        let mut wrong = Vec::new();
        for (line, words) in TABLE {
            // All of them, so that one run shows every one that is wrong.
            wrong.extend(lab.cli(M1, line).refused(words).err().map(|error| format!("{error:#}")));
        }
        wrong.extend(archives(lab)?);
        wrong.extend(ambiguous_prefix(lab).err().map(|error| format!("{error:#}")));
        wrong.extend(too_large(lab).err().map(|error| format!("{error:#}")));
        let after = lab.view()?;
        anyhow::ensure!(wrong.is_empty(), "{} errors are wrong:\n{}", wrong.len(), wrong.join("\n"));
        anyhow::ensure!(after.services.len() == before.services.len(), "nothing was half-applied:\n{after}");
        anyhow::ensure!(
            after.running_ids("taken") == before.running_ids("taken"),
            "nothing was disturbed:\n{after}"
        );
        Ok(())
    });
}

/// Archives that are no images, or want out of their root.
fn archives(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let evil = |name: &str, entries: &[(&str, Entry<'_>)]| -> anyhow::Result<String> {
        let mut tar = Tar::new(Vec::new());
        for (path, entry) in entries {
            tar.add(path, 0o644, *entry)?;
        }
        let path = lab.folder().join(name);
        std::fs::write(&path, tar.finish()?)?;
        Ok(path.display().to_string())
    };
    let text = lab.folder().join("text.tar");
    std::fs::write(&text, "this is no archive")?;
    let outside = lab.folder().join("outside");
    let escape = outside.display().to_string();
    let cases = [
        (format!("image load -i {}", text.display()), "archive"),
        (format!("image load -i {}", evil("empty.tar", &[])?), "image"),
        (format!("image load -i {}", evil("no-image.tar", &[("readme", Entry::File(b"hello"))])?), "image"),
        (
            format!(
                "image load -i {}",
                evil(
                    "no-config.tar",
                    &[(
                        "manifest.json",
                        Entry::File(br#"[{"Config":"x.json","RepoTags":["x:1"],"Layers":[]}]"#)
                    )]
                )?
            ),
            "x.json",
        ),
        (format!("image import {} up:1", evil("up.tar", &[("../../outside", Entry::File(b"x"))])?), ".."),
        (
            format!("image import {} hard:1", evil("hard.tar", &[("link", Entry::HardLink("/etc/passwd"))])?),
            "link",
        ),
    ];
    let mut wrong: Vec<String> = Vec::new();
    for (line, word) in &cases {
        wrong.extend(lab.cli(M1, line).refused(&[word]).err().map(|error| format!("{error:#}")));
    }
    // A link that points out of the root may exist, but nothing is ever written through it.
    let link = [("link", Entry::SymbolicLink(&escape)), ("link/file", Entry::File(b"x"))];
    let _ = lab.cli(M1, &format!("image import {} link:1", evil("link.tar", &link)?)).code();
    if outside.exists() {
        wrong.push(format!("an archive has written to {escape}"));
    }
    let listed = lab.cli(M1, "image ls").ok()?;
    if ["up", "hard", "x:1"].iter().any(|name| listed.contains(name)) {
        wrong.push(format!("a refused archive left an image:\n{listed}"));
    }
    Ok(wrong)
}

fn ambiguous_prefix(lab: &Lab) -> anyhow::Result<()> {
    // Identifiers have 36 possible first characters: 37 services must share one.
    let mut first = std::collections::BTreeMap::<char, usize>::new();
    for number in 0..37 {
        let id = lab
            .cli(M1, &format!("service create --detach --name many{number} --replicas 0 responder:1"))
            .ok()?;
        *first.entry(id.chars().next().unwrap_or(' ')).or_default() += 1;
    }
    let (shared, _) =
        first.into_iter().find(|(_, count)| *count > 1).ok_or_else(|| anyhow::anyhow!("no shared prefix"))?;
    lab.cli(M1, &format!("service inspect {shared}")).refused(&["ambiguous"])?;
    let names: Vec<String> = (0..37).map(|number| format!("many{number}")).collect();
    lab.cli(M1, &format!("service rm {}", names.join(" "))).ok()?;
    lab.eventually("they are gone", |view| view.services.len() == 1)?;
    Ok(())
}

/// A message above the limit is refused as a whole.
fn too_large(lab: &Lab) -> anyhow::Result<()> {
    use coracle_proto::v1;
    let api = lab.api(M1)?;
    let mut services = v1::services_client::ServicesClient::new(api.channel());
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage { reference: "responder:1".into(), digest: String::new() }),
        env: (0..100).map(|number| format!("E{number}={}", "x".repeat(60_000))).collect(),
        ..v1::ContainerSpec::default()
    };
    let task = v1::TaskSpec { container: Some(container), ..v1::TaskSpec::default() };
    let spec = v1::ServiceSpec {
        name: "large".into(),
        task: Some(task),
        mode: Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 1 })),
        ..v1::ServiceSpec::default()
    };
    let request = v1::CreateServiceRequest { spec: Some(spec), idempotency_key: String::new() };
    let result = api.call(std::time::Duration::from_secs(30), services.create(request));
    anyhow::ensure!(result.is_err(), "a specification of 6 MB was accepted");
    Ok(())
}
