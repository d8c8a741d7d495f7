//! Volumes.

use coracle_model::id::NodeId;
use coracle_model::volume::{Volume, is_volume_name};

use super::{DecodeError, timestamp};
use crate::status::{ApiError, Reason};
use crate::v1;

impl From<&Volume> for v1::Volume {
    fn from(volume: &Volume) -> Self {
        Self {
            name: volume.name.clone(),
            node: volume.node.to_string(),
            labels: volume.labels.clone().into_iter().collect(),
            created_at: volume.created_at.as_nanos(),
            used_by: volume.used_by,
            anonymous: volume.anonymous,
            labels_omitted: volume.labels_omitted,
        }
    }
}

/// What a node says of a volume of its own: the node is who said it, whatever the message has.
///
/// # Errors
/// If the name cannot be that of a volume.
pub fn of_node(message: v1::Volume, node: NodeId) -> Result<Volume, DecodeError> {
    Ok(Volume {
        name: name(message.name)?,
        node,
        labels: message.labels.into_iter().collect(),
        labels_omitted: message.labels_omitted,
        created_at: timestamp(message.created_at),
        used_by: message.used_by,
        anonymous: message.anonymous,
    })
}

/// A text that names a volume.
///
/// # Errors
/// If it cannot.
pub fn name(text: String) -> Result<String, DecodeError> {
    if is_volume_name(&text) {
        return Ok(text);
    }
    let problem =
        "a volume's name begins with a letter or a digit and has only these, '_', '.' and '-', 255 at most";
    Err(DecodeError::invalid("volume", text, problem))
}

impl From<ApiError> for v1::VolumeProblem {
    fn from(error: ApiError) -> Self {
        Self {
            reason: error.reason.as_str().to_owned(),
            message: error.message,
            hint: error.hint.unwrap_or_default(),
            tasks: Vec::new(),
        }
    }
}

impl From<v1::VolumeProblem> for ApiError {
    fn from(problem: v1::VolumeProblem) -> Self {
        let reason = Reason::from_word(&problem.reason).unwrap_or(Reason::Internal);
        let hint = Some(problem.hint).filter(|hint| !hint.is_empty());
        Self { reason, message: problem.message, hint }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coracle_model::time::Timestamp;

    use super::*;

    #[test]
    fn a_volume_survives_the_way_and_its_node_is_who_says_so() {
        let node = NodeId::from_bits(7);
        let volume = Volume {
            name: "db.data-1_x".to_owned(),
            node,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            labels_omitted: true,
            created_at: Timestamp::from_secs(5),
            used_by: 3,
            anonymous: true,
        };
        let message = v1::Volume::from(&volume);
        assert_eq!(of_node(message.clone(), node), Ok(volume.clone()));
        let other = NodeId::from_bits(8);
        assert_eq!(of_node(message, other), Ok(Volume { node: other, ..volume }));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for text in ["", ".", "..", "a/b", "-x", "ä", &"x".repeat(256)] {
            let error = name(text.to_owned()).unwrap_err();
            assert_eq!(error.field(), "volume", "{text:?}");
        }
    }

    #[test]
    fn a_problem_survives_the_way() {
        for hint in [None, Some("try")] {
            let error = ApiError {
                reason: Reason::Exists,
                message: "there".to_owned(),
                hint: hint.map(str::to_owned),
            };
            assert_eq!(ApiError::from(v1::VolumeProblem::from(error.clone())), error);
        }
        let foreign = v1::VolumeProblem { reason: "nonsense".to_owned(), ..Default::default() };
        assert_eq!(ApiError::from(foreign).reason, Reason::Internal);
    }
}
