//! Hostile and good documents as tables.

use serde_json::{Value, json};

use super::config::{ConfigDocument, ExposedPort, HealthTest, Protocol};
use super::manifest::{Index, Manifest, media_type};
use crate::limits::Limits;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn document(config: Value) -> Value {
    json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": []}})
}

fn parse(document: &Value) -> Result<ConfigDocument, String> {
    ConfigDocument::parse(&serde_json::to_vec(document).unwrap(), &Limits::default())
        .map_err(|error| error.to_string())
}

#[test]
fn a_full_configuration_is_read() {
    let parsed = parse(&document(json!({
        "User": "www-data:33", "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "9000-9001": {}},
        "Env": ["PATH=/bin", "A=1", "PATH=/usr/bin", "EMPTY="], "Entrypoint": ["/init"], "Cmd": null,
        "Volumes": {"/data/./x//": {}}, "WorkingDir": "/srv//app/", "Labels": {"com.docker.x": "--privileged"},
        "StopSignal": "SIGRTMIN+3", "OnBuild": ["RUN x"], "Unknown": {"Privileged": true},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000u64, "Retries": 3},
    })))
    .unwrap();
    let config = parsed.config;
    assert_eq!(config.user.as_deref(), Some("www-data:33"));
    assert_eq!(config.environment, ["PATH=/usr/bin", "A=1", "EMPTY="]);
    assert_eq!((config.entrypoint.len(), config.command.len()), (1, 0));
    assert_eq!(config.working_directory.as_deref(), Some("/srv/app"));
    assert!(config.volumes.contains("/data/x"));
    assert_eq!(config.stop_signal.unwrap().number(), 37);
    assert_eq!(config.exposed_ports.len(), 4);
    assert!(config.exposed_ports.contains(&ExposedPort { port: 9001, protocol: Protocol::Tcp }));
    let health = config.health_check.unwrap();
    assert_eq!(health.test, HealthTest::Shell("true".into()));
    assert_eq!((health.interval.unwrap().as_secs(), health.retries, health.timeout), (5, Some(3), None));
    assert!(parse(&json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}})).is_ok());
    assert!(parse(&document(json!(null))).is_ok());
}

#[test]
fn signals() {
    let signal = |text: &str| {
        parse(&document(json!({"StopSignal": text})))
            .map(|parsed| parsed.config.stop_signal.unwrap().number())
    };
    for (text, number) in [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGRTMIN", 34),
        ("SIGRTMAX", 64),
        ("RTMAX-1", 63),
        ("64", 64),
    ] {
        assert_eq!(signal(text), Ok(number), "{text}");
    }
    for text in ["0", "65", "-9", "+9", "SIGNOPE", "SIGRTMIN+31", "RTMAX-31", "SIG", "SIG9 ", "999999999999"]
    {
        assert!(signal(text).unwrap_err().contains("invalid StopSignal"), "{text}");
    }
}

#[test]
fn hostile_configurations_name_the_field() {
    let long = "x".repeat(200_000);
    let many: Vec<String> = (0..5000).map(|number| format!("V{number}=1")).collect();
    for (config, field) in [
        (json!({"WorkingDir": "../../etc"}), "WorkingDir"),
        (json!({"WorkingDir": "app"}), "WorkingDir"),
        (json!({"WorkingDir": "/a/../../b"}), "WorkingDir"),
        (json!({"WorkingDir": "/a\u{0}b"}), "WorkingDir"),
        (json!({"WorkingDir": format!("/{long}")}), "WorkingDir"),
        (json!({"Volumes": {"/": {}}}), "Volumes"),
        (json!({"Volumes": {"//./": {}}}), "Volumes"),
        (json!({"Volumes": {"/../../proc": {}}}), "Volumes"),
        (json!({"Volumes": {"relative": {}}}), "Volumes"),
        (json!({"Volumes": {"/a\nb": {}}}), "Volumes"),
        (json!({"User": "root\nevil:x:0:0"}), "User"),
        (json!({"User": "a:b:c"}), "User"),
        (json!({"User": ":"}), "User"),
        (json!({"User": "4294967295"}), "User"),
        (json!({"User": "99999999999"}), "User"),
        (json!({"User": "../../etc/passwd"}), "User"),
        (json!({"User": "-1"}), "User"),
        (json!({"User": "1000:"}), "User"),
        (json!({"Env": ["NOVALUE"]}), "Env"),
        (json!({"Env": ["=x"]}), "Env"),
        (json!({"Env": ["A=\u{0}"]}), "Env"),
        (json!({"Env": [format!("A={long}")]}), "Env"),
        (json!({"Env": many}), "Env"),
        (json!({"Cmd": ["a\u{0}b"]}), "Cmd"),
        (json!({"Entrypoint": vec![&long[..100_000]; 11]}), "Entrypoint"),
        (json!({"ExposedPorts": {"0/tcp": {}}}), "ExposedPorts"),
        (json!({"ExposedPorts": {"70000": {}}}), "ExposedPorts"),
        (json!({"ExposedPorts": {"+80": {}}}), "ExposedPorts"),
        (json!({"ExposedPorts": {"80/icmp": {}}}), "ExposedPorts"),
        (json!({"ExposedPorts": {"1-65535": {}}}), "ExposedPorts"),
        (json!({"ExposedPorts": {"90-80": {}}}), "ExposedPorts"),
        (json!({"Healthcheck": {"Test": ["EXEC", "x"]}}), "Healthcheck"),
        (json!({"Healthcheck": {"Test": ["CMD"]}}), "Healthcheck"),
        (json!({"Healthcheck": {"Test": ["NONE"], "Interval": -5}}), "Healthcheck"),
        (json!({"Healthcheck": {"Test": ["NONE"], "Timeout": 10}}), "Healthcheck"),
        (json!({"Healthcheck": {"Test": ["NONE"], "Retries": -1}}), "Healthcheck"),
        (json!({"Labels": {"a": "x".repeat(2 << 20)}}), "Labels"),
    ] {
        let error = parse(&document(config.clone())).expect_err(field);
        assert!(error.contains(&format!("invalid {field}")), "{field}: {error}");
        assert!(error.len() < 600, "{field}: long message");
    }
}

#[test]
fn configurations_of_the_wrong_shape() {
    for (document, part) in [
        (json!({}), "os"),
        (json!("text"), "invalid type"),
        (json!({"architecture": "amd64", "os": "windows", "rootfs": {"type": "layers"}}), "windows"),
        (json!({"architecture": "", "os": "linux", "rootfs": {"type": "layers"}}), "architecture"),
        (json!({"architecture": "a/../b", "os": "linux", "rootfs": {"type": "layers"}}), "architecture"),
        (json!({"architecture": "amd64", "os": "linux"}), "rootfs.type"),
        (
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha512:00"]}}),
            "sha512",
        ),
        (
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": vec![DIGEST; 501]}}),
            "501 layers",
        ),
        (document(json!({"Cmd": "sh"})), "invalid type"),
        (document(json!({"Env": [1]})), "invalid type"),
        (document(json!({"Labels": {"a": {"b": 1}}})), "invalid type"),
        (document(json!({"User": 0})), "invalid type"),
    ] {
        let error = parse(&document).expect_err(part);
        assert!(error.contains(part), "{part}: {error}");
    }
    let twice = br#"{"architecture":"amd64","os":"linux","config":{"User":"1","User":"0"},"rootfs":{"type":"layers"}}"#;
    assert!(
        ConfigDocument::parse(twice, &Limits::default()).unwrap_err().to_string().contains("appears twice")
    );
}

#[test]
fn manifests_cannot_be_two_things() {
    let config = json!({"mediaType": media_type::OCI_CONFIG, "digest": DIGEST, "size": 2});
    let layer = |kind: &str, size: u64| json!({"mediaType": kind, "digest": DIGEST, "size": size});
    let good =
        json!({"schemaVersion": 2, "config": config, "layers": [layer(media_type::OCI_LAYER_GZIP, 1)]});
    let manifest =
        |value: &Value| Manifest::parse(&serde_json::to_vec(value).unwrap(), "manifest", &Limits::default());
    let index =
        |value: &Value| Index::parse(&serde_json::to_vec(value).unwrap(), "index", &Limits::default());
    let parsed = manifest(&good).unwrap();
    assert_eq!(Manifest::parse(&parsed.to_bytes(), "manifest", &Limits::default()).unwrap(), parsed);
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    for (value, part) in [
        (with("manifests", json!([])), "only an index has"),
        (with("mediaType", json!(media_type::OCI_INDEX)), "mediaType"),
        (with("schemaVersion", json!(1)), "schema version 1"),
        (with("schemaVersion", json!(3)), "schemaVersion"),
        (with("fsLayers", json!([])), "schema version 1"),
        (with("config", json!(null)), "no \"config\""),
        (with("layers", json!(null)), "no \"layers\""),
        (
            with("layers", json!([layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1)])),
            "foreign",
        ),
        (with("layers", json!([layer("text/plain", 1)])), "text/plain"),
        (with("layers", json!([layer(media_type::OCI_LAYER, 1 << 60)])), "limit of"),
        (
            with("layers", json!([{"mediaType": media_type::OCI_LAYER, "digest": DIGEST, "size": -1}])),
            "invalid value",
        ),
        (with("layers", json!([{"mediaType": media_type::OCI_LAYER, "digest": "md5:00", "size": 1}])), "md5"),
        (with("layers", json!(vec![layer(media_type::OCI_LAYER, 1); 401])), "400 layers"),
        (with("config", json!({"mediaType": "application/vnd.helm", "digest": DIGEST, "size": 2})), "helm"),
    ] {
        let error = manifest(&value).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(index(&good).unwrap_err().to_string().contains("config"));
    assert!(index(&json!({"schemaVersion": 2})).unwrap_err().to_string().contains("no \"manifests\""));
    assert!(index(&json!({"schemaVersion": 2, "manifests": [], "layers": []})).is_err());
}
