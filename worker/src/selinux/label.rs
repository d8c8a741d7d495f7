//! From what the service says and what the node's policy has to the labels of one container, by Docker's rules.

use coracle_agent_runtime::SelinuxDefaults;

/// The labels of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its own files: nobody else's processes may use them, unless the policy lets them use every level.
    pub mount: String,
    /// Of volumes, which tasks with other levels use too: as its own files, at the level without categories.
    pub shared: String,
    /// Of layers of images, which all containers read.
    pub layer: String,
}

/// `USER:ROLE:TYPE[:LEVEL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Label {
    /// None if it has fewer than three parts.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        Some(Self { user: parts.next()?, role: parts.next()?, kind: parts.next()?, level: parts.next() })
    }

    fn text(&self) -> String {
        let Self { user, role, kind, level } = self;
        let level = level.as_ref().map(|level| format!(":{level}")).unwrap_or_default();
        format!("{user}:{role}:{kind}{level}")
    }

    /// The lower end of its range without categories: `s0` of `s0-s3:c1,c2`.
    fn without_categories(&self) -> Self {
        let level = self.level.as_deref().map(sensitivity).map(str::to_owned);
        Self { level, ..self.clone() }
    }
}

fn sensitivity(level: &str) -> &str {
    level.split(['-', ':']).next().unwrap_or(level)
}

/// The level of a label, where it has one.
pub(super) fn level(label: &str) -> Option<&str> {
    label.splitn(4, ':').nth(3)
}

/// The options of a service, each `KEY:VALUE`. Without one for the level `categories` are the task's own, as `c1,c2`.
///
/// # Errors
/// For the operator: an option that this node's policy cannot have.
pub(super) fn compose(
    defaults: &SelinuxDefaults,
    options: &[String],
    categories: &str,
) -> Result<Labels, String> {
    let of_node = |label: &str| {
        Label::parse(label).ok_or_else(|| format!("this node's policy labels containers {label:?}"))
    };
    let (mut process, mut mount) = (of_node(&defaults.process)?, of_node(&defaults.file)?);
    if defaults.has_levels {
        let low = sensitivity(process.level.as_deref().unwrap_or("s0"));
        let own = Some(format!("{low}:{categories}"));
        (process.level, mount.level) = (own.clone(), own);
    }
    for option in options {
        let (key, value) = option.split_once(':').unwrap_or((option, ""));
        let value = value.to_owned();
        match key {
            "user" => (process.user, mount.user) = (value.clone(), value),
            "role" => process.role = value,
            "type" => process.kind = value,
            "filetype" => mount.kind = value,
            "level" if defaults.has_levels => {
                (process.level, mount.level) = (Some(value.clone()), Some(value))
            }
            "level" => {
                return Err(format!("label={option}: the SELinux policy of this node has no levels"));
            }
            _ => return Err(format!("label={option}: unknown key")),
        }
    }
    Ok(Labels {
        process: process.text(),
        mount: mount.text(),
        shared: mount.without_categories().text(),
        layer: defaults.layer.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selinux::usual_defaults;

    fn composed(options: &[&str]) -> [String; 3] {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let labels = compose(&usual_defaults(), &options, "c5,c9").unwrap();
        [labels.process, labels.mount, labels.shared]
    }

    #[test]
    fn what_is_not_said_is_the_node_s_and_the_level_the_task_s() {
        assert_eq!(
            composed(&[]),
            [
                "system_u:system_r:container_t:s0:c5,c9",
                "system_u:object_r:container_file_t:s0:c5,c9",
                "system_u:object_r:container_file_t:s0"
            ]
        );
        assert_eq!(
            composed(&["type:web_t", "level:s0-s1:c1,c2", "filetype:web_file_t", "user:u", "role:r"]),
            ["u:r:web_t:s0-s1:c1,c2", "u:object_r:web_file_t:s0-s1:c1,c2", "u:object_r:web_file_t:s0"]
        );
        assert_eq!(composed(&["type:web_t"])[1], "system_u:object_r:container_file_t:s0:c5,c9");
        assert_eq!(composed(&["level:s2"])[2], "system_u:object_r:container_file_t:s2");
    }

    #[test]
    fn a_policy_without_levels() {
        let [process, file, layer] = ["u:r:t", "u:o:f", "u:o:l"].map(str::to_owned);
        let plain = SelinuxDefaults { process, file, layer, has_levels: false };
        let labels = compose(&plain, &["type:web_t".into()], "c5,c9").unwrap();
        assert_eq!([labels.process, labels.mount, labels.shared], ["u:r:web_t", "u:o:f", "u:o:f"]);
        let error = compose(&plain, &["level:s0".into()], "c5,c9").unwrap_err();
        assert_eq!(error, "label=level:s0: the SELinux policy of this node has no levels");
    }

    #[test]
    fn levels_are_what_follows_the_third_colon() {
        assert_eq!(level("u:r:t:s0-s1:c1,c2"), Some("s0-s1:c1,c2"));
        assert_eq!(level("u:r:t"), None);
    }
}
