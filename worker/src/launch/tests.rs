use std::sync::Arc;

use coracle_model::digest::Digest;
use coracle_model::id::ServiceId;
use coracle_model::service::PinnedImage;
use coracle_model::task::Slot;

use super::*;

fn spec() -> TaskSpec {
    let image = PinnedImage { reference: "web:1".into(), digest: Digest::from_bytes([1; 32]) };
    TaskSpec::of(ContainerSpec::of(image))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn made(spec: &TaskSpec, image: &ImageConfig) -> Result<Launch, LaunchError> {
    let assignment = Assignment {
        id: TaskId::from_bits(u128::MAX / 3),
        service: ServiceId::from_bits(1),
        service_name: "web".into(),
        service_labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        slot: Slot::Number(1),
        spec: Ok(Arc::new(spec.clone())),
        generic: BTreeMap::new(),
    };
    let node = NodeFacts {
        id: "n".into(),
        hostname: "host_1".into(),
        architecture: "amd64".into(),
        os: "linux".into(),
    };
    launch(&assignment, spec, &values(&assignment, &node), image, vec![], PathBuf::from("/logs"))
}

#[test]
fn placeholders_are_filled_in_and_what_they_become_is_checked() {
    let image = ImageConfig { command: words("sh"), ..ImageConfig::default() };
    let mut spec = spec();
    spec.container.hostname = "{{.Service.Name}}-{{.Task.Slot}}".into();
    spec.container.env =
        vec!["AT={{.Node.Hostname}}/{{index .Service.Labels \"zone\"}} {{.Task.Name}}".into()];
    let launch = made(&spec, &image).unwrap();
    assert_eq!((launch.hostname.as_str(), launch.container.hostname.as_str()), ("web-1", "web-1"));
    let told = format!("AT=host_1/a web.1.{}", launch.task);
    assert!(launch.environment.contains(&told) && launch.environment.contains(&"HOSTNAME=web-1".to_owned()));
    spec.container.hostname = "{{.Node.Hostname}}..{{.Task.Slot}}".into();
    assert_eq!(
        made(&spec, &image).unwrap_err().to_string(),
        "hostname: invalid value \"host_1..1\": use letters, digits, '-' and '.', at most 64 characters (with placeholders \
         filled in)"
    );
    let mut missing = spec;
    missing.container.hostname.clear();
    missing.container.env = vec!["A={{.Nope}}".into()];
    assert!(made(&missing, &image).unwrap_err().to_string().contains("{{.Nope}} is not known"));
}

#[test]
fn arguments_replace_the_command_and_follow_the_entry_point() {
    let cases = [
        // entry point, command, arguments of the service, result
        ("", "sh", "", "sh"),
        ("", "sh", "ls -l", "ls -l"),
        ("/init", "", "", "/init"),
        ("/init", "serve --all", "", "/init serve --all"),
        ("/init -v", "serve", "check", "/init -v check"),
    ];
    for (entrypoint, command, args, expected) in cases {
        let image =
            ImageConfig { entrypoint: words(entrypoint), command: words(command), ..ImageConfig::default() };
        let mut spec = spec();
        spec.container.args = words(args);
        assert_eq!(made(&spec, &image).unwrap().arguments, words(expected), "{entrypoint}|{command}|{args}");
    }
    let error = made(&spec(), &ImageConfig::default()).unwrap_err();
    assert!(error.to_string().contains("web:1"), "{error}");
}

#[test]
fn an_entry_point_of_the_service_replaces_the_image_s_with_its_command() {
    let image = ImageConfig { entrypoint: words("/init"), command: words("serve"), ..ImageConfig::default() };
    for (entrypoint, args, expected) in [
        (&["/mine", "-x"][..], "", "/mine -x"),
        (&["/mine"][..], "a b", "/mine a b"),
        (&[""][..], "a b", "a b"),
        (&[][..], "a", "/init a"),
    ] {
        let mut spec = spec();
        spec.container.entrypoint = entrypoint.iter().map(|&word| word.to_owned()).collect();
        spec.container.args = words(args);
        assert_eq!(made(&spec, &image).unwrap().arguments, words(expected), "{entrypoint:?} {args}");
    }
    let mut none = spec();
    none.container.entrypoint = vec![String::new()];
    assert!(made(&none, &image).unwrap_err().to_string().contains("web:1"));
}

#[test]
fn the_node_s_name_is_not_replaced_in_the_environment() {
    let mut spec = spec();
    spec.container.uts = NamespaceMode::Host;
    let launch = made(&spec, &ImageConfig { command: words("sh"), ..ImageConfig::default() }).unwrap();
    assert_eq!(launch.environment, [format!("PATH={DEFAULT_PATH}")]);
}

#[test]
fn variables_are_combined_by_name() {
    let image = words("PATH=/app A=1 B=2");
    let service = words("B=3 C=4=5 A D=");
    let combined = environment(&image, &service, Some("host"));
    assert_eq!(combined, ["PATH=/app", "HOSTNAME=host", "B=3", "C=4=5", "D="]);
    assert_eq!(environment(&[], &[], Some("h")), [format!("PATH={DEFAULT_PATH}"), "HOSTNAME=h".into()]);
    assert_eq!(environment(&[], &words("HOSTNAME=mine"), Some("h"))[1], "HOSTNAME=mine");
}

#[test]
fn what_the_service_leaves_empty_is_the_images() {
    let image = ImageConfig {
        command: words("sh"),
        working_directory: Some("/srv".into()),
        user: Some("app:web".into()),
        stop_signal: Some("SIGQUIT".parse().unwrap()),
        ..ImageConfig::default()
    };
    let of_image = made(&spec(), &image).unwrap();
    assert_eq!(
        (of_image.working_directory.as_str(), of_image.user.as_str(), of_image.stop_signal),
        ("/srv", "app:web", 3)
    );
    let mut own = spec();
    own.container.workdir = "/data".into();
    own.container.user = "5".into();
    own.container.stop_signal = "usr1".into();
    own.container.hostname = "box".into();
    let own = made(&own, &image).unwrap();
    assert_eq!((own.working_directory.as_str(), own.user.as_str(), own.stop_signal), ("/data", "5", 10));
    assert_eq!(own.hostname, "box");
    let bare = made(&spec(), &ImageConfig { command: words("sh"), ..ImageConfig::default() }).unwrap();
    assert_eq!((bare.working_directory.as_str(), bare.user.as_str(), bare.stop_signal), ("/", "", SIGTERM));
    assert_eq!(bare.hostname, bare.task.to_string()[..12]);
}

#[test]
fn an_unknown_signal_is_refused_by_name() {
    let mut spec = spec();
    spec.container.stop_signal = "SIGNOPE".into();
    let error = made(&spec, &ImageConfig { command: words("sh"), ..ImageConfig::default() }).unwrap_err();
    assert!(error.to_string().contains("SIGNOPE"), "{error}");
}

#[test]
fn our_labels_cannot_be_forged_by_the_services() {
    let mut spec = spec();
    spec.container.labels =
        [("a", "b"), (LABEL_TASK, "other")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let launch = made(&spec, &ImageConfig { command: words("sh"), ..ImageConfig::default() }).unwrap();
    assert_eq!(launch.labels["a"], "b");
    assert_eq!(launch.labels[LABEL_TASK], launch.task.to_string());
    assert_eq!(launch.labels[LABEL_STOP_GRACE], "10000");
}
