use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::{NodeId, ServiceId, TaskId};
use crate::task::Slot;

fn values() -> Values {
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    let node = NodeFacts {
        id: NodeId::from_bits(2).to_string(),
        hostname: "host".to_owned(),
        architecture: "arm64".to_owned(),
        os: "linux".to_owned(),
    };
    Values::of((ServiceId::from_bits(1), "web", &labels), &node, TaskId::from_bits(3), Slot::Number(7))
}

fn rendered(template: &Template) -> String {
    let values = values();
    let value = |placeholder: &Placeholder| match placeholder {
        Placeholder::Secret(name) | Placeholder::Config(name) | Placeholder::Variable(name) => {
            format!("<{name}>")
        }
        known => values.get(known).unwrap().to_owned(),
    };
    // Owned by us, because the pieces only borrow.
    let owned: BTreeMap<&Placeholder, String> =
        template.placeholders().map(|placeholder| (placeholder, value(placeholder))).collect();
    let pieces = template.pieces(|placeholder| owned.get(placeholder).map(|text| text.as_bytes()).ok_or(()));
    String::from_utf8(pieces.unwrap().concat()).unwrap()
}

fn filled(text: &str) -> String {
    Template::parse(text, Words::File).map_or_else(|error| error.to_string(), |template| rendered(&template))
}

#[test]
fn texts_are_filled_in() {
    let id = |bits: u128| TaskId::from_bits(bits).to_string();
    for (text, expected) in [
        ("", String::new()),
        ("plain } }} text", "plain } }} text".into()),
        ("{{.Service.ID}}", id(1)),
        ("{{ .Service.Name }}-{{.Task.Slot}}", "web-7".into()),
        ("{{index .Service.Labels \"zone\"}}", "a".into()),
        ("{{index .Service.Labels `zone`}}", "a".into()),
        ("<{{ index  .Service.Labels  \"none\" }}>", "<>".into()),
        ("{{.Node.ID}}", id(2)),
        (
            "{{.Node.Hostname}}.{{.Node.Platform.Architecture}}.{{.Node.Platform.OS}}",
            "host.arm64.linux".into(),
        ),
        ("{{.Task.ID}}", id(3)),
        ("{{.Task.Name}}", format!("web.7.{}", id(3))),
        ("a  {{- .Service.Name}} b", "aweb b".into()),
        ("a {{.Service.Name -}}\n\t b", "a webb".into()),
        ("a {{- \" \" -}} b", "a b".into()),
        ("{{\n.Service.Name\n}}", "web".into()),
        ("{{\"{{\"}}.Service.Name}}", "{{.Service.Name}}".into()),
        ("{{`}}\"`}}{{\"a\\\"\\\\\\n}}\"}}", "}}\"a\"\\\n}}".into()),
        ("{{secret \"a\"}}{{ config `b` }}{{env \"C\"}}", "<a><b><C>".into()),
    ] {
        assert_eq!(filled(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in [
        ("ä{{.Task.Nope}}", "at character 2: {{.Task.Nope}} is not known"),
        ("a\nbc {{.Task}} d", "at line 2, character 4: {{.Task}} is not known"),
        ("{{}}", "at character 1: {{}} is not known"),
        ("{{ name }}", "at character 1: {{ name }} is not known"),
        ("{{.Task.ID | upper}}", "at character 1: {{.Task.ID | upper}} is not known"),
        ("{{index .Service.Labels zone}}", "at character 1: {{index .Service.Labels zone}} is not known"),
        ("{{-.Task.ID}}", "at character 1: {{-.Task.ID}} is not known"),
        ("{{.Task.ID-}}", "at character 1: {{.Task.ID-}} is not known"),
        ("{{.Task.ID", "at character 1: \"{{\" is not closed by \"}}\""),
        ("{{ ", "at character 1: \"{{\" is not closed by \"}}\""),
        ("{{\"a}}", "at character 1: a text in quotes is not closed"),
        ("{{`a}}", "at character 1: a text in quotes is not closed"),
        (
            "{{\"\\x41\"}}",
            "at character 1: a text in quotes has a '\\' that is not followed by \\, \", n, r or t",
        ),
    ] {
        let told = filled(text);
        assert!(told.starts_with(&format!("{expected}; what can stand there is {KNOWN}")), "{text}: {told}");
    }
    let error = Template::parse("{{secret \"a\"}}", Words::Specification).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "at character 1: {{{{secret \"a\"}}}} is not known; what can stand there is {KNOWN}, and {{{{\"{{{{\"}}}} for two \
             braces that are meant as they are"
        )
    );
    let error = Template::parse("{{", Words::File).unwrap_err().to_string();
    assert!(
        error.contains("{{.Task.Slot}}, {{secret \"NAME\"}}, {{config \"NAME\"}}, {{env \"NAME\"}}, and {{"),
        "{error}"
    );
    let hidden = Template::parse("x{{canary}}", Words::File).unwrap_err().without_text().to_string();
    assert!(hidden.starts_with("at character 2: what stands there is not known; "), "{hidden}");
}

proptest! {
    #[test]
    fn texts_without_braces_stand_for_themselves(text in "[^{]*") {
        prop_assert_eq!(filled(&text), text);
    }

    #[test]
    fn any_text_can_be_said_in_quotes(text in "[^`]{0,20}") {
        prop_assert_eq!(filled(&format!("{{{{`{text}`}}}}")), text);
    }

    #[test]
    fn nothing_panics_and_places_are_within_the_text(text in "[ -.a-cIDTask{}\"`\\\\\n]{0,30}") {
        if let Err(error) = Template::parse(&text, Words::File) {
            prop_assert!(error.line <= text.lines().count().max(1));
            prop_assert!(error.character <= text.chars().count() + 1);
        }
    }
}
