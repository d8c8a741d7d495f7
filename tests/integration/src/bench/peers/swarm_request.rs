//! What is asked of Docker's Engine API for a service.

use serde_json::{Value, json};

use crate::bench::subject::{Restart, Rollout, SERVICE, Service};
use crate::image::RESPONDER;

/// The specification of a service, for `POST /services/create`.
pub(super) fn specification(service: &Service) -> Value {
    // The default signal would be as good for this program; with this one no grace can be part of a time.
    let container = json!({ "Image": RESPONDER, "Args": service.arguments, "StopSignal": "SIGKILL" });
    let constraints: Vec<String> =
        service.place.iter().map(|place| format!("node.hostname=={place}")).collect();
    let networks: Vec<Value> =
        service.host_network.then(|| json!({ "Target": "host" })).into_iter().collect();
    let mut task = json!({
        "ContainerSpec": container,
        "Placement": { "Constraints": constraints },
        "Networks": networks,
    });
    match service.restart {
        Restart::Default => {}
        Restart::AtOnce => task["RestartPolicy"] = json!({ "Condition": "any", "Delay": 0 }),
        Restart::Never => task["RestartPolicy"] = json!({ "Condition": "none" }),
    }
    json!({
        "Name": SERVICE,
        "TaskTemplate": task,
        "Mode": { "Replicated": { "Replicas": service.replicas } },
        "UpdateConfig": update(service.rollout),
    })
}

/// How a service is updated: without pauses, and without watching new tasks longer than needed.
fn update(rollout: Rollout) -> Value {
    let order = if rollout.start_first { "start-first" } else { "stop-first" };
    json!({ "Parallelism": rollout.parallelism, "Delay": 0, "Monitor": 0, "Order": order })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::W1;

    #[test]
    fn a_specification_says_what_the_service_does() {
        let service =
            Service { restart: Restart::AtOnce, place: Some(W1), host_network: true, ..Service::sleeping(7) };
        let specification = specification(&service);
        assert_eq!(specification["Mode"]["Replicated"]["Replicas"], 7);
        assert_eq!(specification["TaskTemplate"]["RestartPolicy"]["Delay"], 0);
        assert_eq!(specification["TaskTemplate"]["Placement"]["Constraints"][0], "node.hostname==w1");
        assert_eq!(specification["TaskTemplate"]["Networks"][0]["Target"], "host");
        assert_eq!(specification["UpdateConfig"]["Order"], "stop-first");
    }
}
