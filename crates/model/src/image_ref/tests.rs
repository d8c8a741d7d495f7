//! The grammar as a table, and properties over it.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn parsed(text: &str) -> ImageReference {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn good_references_normalise() {
    for (text, canonical, familiar) in [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("team/web", "docker.io/team/web:latest", "team/web:latest"),
        ("library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1"),
        ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
        ("localhost:5000/web:2", "localhost:5000/web:2", "localhost:5000/web:2"),
        ("registry.example/team/web", "registry.example/team/web:latest", "registry.example/team/web:latest"),
        ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest"),
        ("docker.io/localhost/web", "docker.io/localhost/web:latest", "docker.io/localhost/web:latest"),
        ("docker.io/a.b/web", "docker.io/a.b/web:latest", "docker.io/a.b/web:latest"),
        ("HOST/web", "HOST/web:latest", "HOST/web:latest"),
        ("a__b/c-----d/e.f_g", "docker.io/a__b/c-----d/e.f_g:latest", "a__b/c-----d/e.f_g:latest"),
    ] {
        let reference = parsed(text);
        assert_eq!(reference.canonical(), canonical, "{text}");
        assert_eq!(reference.to_string(), familiar, "{text}");
        assert_eq!(parsed(canonical), reference, "{text}");
        assert_eq!(parsed(familiar), reference, "{text}");
    }
}

#[test]
fn digests_pin_and_unpin() {
    let pinned = parsed(&format!("busybox@{DIGEST}"));
    assert_eq!(pinned.tag(), None);
    assert_eq!(pinned.digest().unwrap().to_string(), DIGEST);
    assert_eq!(pinned.to_string(), format!("busybox@{DIGEST}"));
    assert_eq!(pinned.without_digest(), parsed("busybox"));
    let both = parsed(&format!("busybox:1@{DIGEST}"));
    assert_eq!((both.tag(), both.digest()), (Some("1"), pinned.digest()));
    assert_eq!(parsed("busybox:1").with_digest(pinned.digest().unwrap()), both);
}

#[test]
fn bad_references_name_the_value() {
    for text in [
        "",
        ":tag",
        "busybox:",
        "Busybox",
        "a//b",
        "/a",
        "a/",
        "a/Ｂ",
        "a b",
        "a:b:c",
        "a@b",
        "a@sha256:12",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "host:port/a",
        "host:99999/a",
        "-host.x/a",
        "[::zz]/a",
        "[::1]x/a",
        "a\nb",
        "a\0",
        "../a",
        "a/../b",
        DIGEST,
        &"a".repeat(64),
        &"a".repeat(256),
        &format!("a:{}", "t".repeat(129)),
        "a:.t",
        "a:-t",
        "a:tág",
    ] {
        let error = text.parse::<ImageReference>().expect_err(text).to_string();
        let shown = format!("{:?}", shortened(text));
        assert!(text.is_empty() || error.contains(&shown), "{text:?}: {error}");
    }
}

#[test]
fn tagged_form_refuses_digests() {
    assert_eq!(ImageReference::parse_tagged("web").unwrap(), parsed("web:latest"));
    assert!(
        ImageReference::parse_tagged(&format!("web@{DIGEST}")).unwrap_err().to_string().contains("NAME:TAG")
    );
}

proptest! {
    #[test]
    fn whatever_parses_round_trips(text in "[a-zA-Z0-9._:/@\\-\\[\\]]{0,40}|\\PC{0,40}") {
        if let Ok(reference) = text.parse::<ImageReference>() {
            prop_assert_eq!(&parsed(&reference.canonical()), &reference);
            prop_assert_eq!(&parsed(&reference.to_string()), &reference);
        }
    }

    #[test]
    fn built_from_the_grammar_parses(
        path in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,2}",
        tag in "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}",
    ) {
        let text = format!("registry.example:5000/{path}:{tag}");
        prop_assert_eq!(parsed(&text).to_string(), text);
    }
}
