//! How a swarm forms: only with the right token, and every refusal says why.

use coracle_integration::harness;
use coracle_integration::lab::FORM_DEADLINE;
use coracle_integration::name::{M1, M2, M3, W1, W2};

#[test]
fn nodes_join_only_with_the_right_token() {
    harness::bare("formation", 3, 2, |lab| {
        let join = |token: &str| format!("swarm join --token {token} {}:2377", M1.address());
        lab.cli(M1, "node ls").refused(&["not part of a swarm", "swarm init"])?;
        let told = lab.cli(M1, &format!("swarm init --advertise-addr {}", M1.address())).ok_both()?;
        anyhow::ensure!(
            told.contains("swarm join --token CRCTKN-1-"),
            "init prints the command to join: {told}"
        );
        lab.cli(M1, "swarm init").refused(&["already"])?;
        lab.cli(M1, "swarm leave").refused(&["last manager", "force"])?;

        let worker = lab.cli(M1, "swarm join-token -q worker").ok()?;
        let manager = lab.cli(M1, "swarm join-token -q manager").ok()?;
        anyhow::ensure!(worker != manager, "each role has its own token");
        lab.cli(W1, &join("nonsense")).refused(&["token"])?;
        lab.cli(W1, &join(&other_secret(&worker))).refused(&["token"])?;
        lab.cli(W1, &join(&other_root(&worker))).refused(&["certificate"])?;
        lab.cli(W1, &format!("swarm join --token {worker} 10.99.0.250:2377"))
            .refused(&["10.99.0.250:2377"])?;
        lab.cli(W1, &join(&worker)).ok()?;
        lab.cli(W1, &join(&worker)).refused(&["already"])?;

        let rotated = lab.cli(M1, "swarm join-token -q --rotate worker").ok()?;
        anyhow::ensure!(rotated != worker, "rotation makes another token");
        let error = lab.cli(W2, &join(&worker)).refused(&["token"])?;
        anyhow::ensure!(!error.contains(&worker), "an error does not repeat the token");
        lab.cli(W2, &join(&rotated)).ok()?;
        lab.cli(M2, &join(&manager)).ok()?;
        lab.cli(M3, &join(&manager)).ok()?;
        lab.eventually_within("five are ready, three vote", FORM_DEADLINE, |view| {
            view.ready() == 5 && view.voters() == 3
        })?;

        // Every manager answers, a worker's socket does not speak for operators.
        for name in [M1, M2, M3] {
            anyhow::ensure!(lab.view_from(name)?.nodes.len() == 5, "{name} answers for the cluster");
        }
        lab.cli(W1, "node ls").refused(&["manager"])?;
        lab.cli(W1, "system info").ok()?;
        let listed = lab.cli(M2, "node ls --format json").ok()?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        anyhow::ensure!(listed.as_array().is_some_and(|nodes| nodes.len() == 5), "{listed}");
        let table = lab.cli(M2, "node ls").ok()?;
        anyhow::ensure!(table.contains("Leader") && table.contains("Reachable"), "{table}");

        // A worker leaves and is removed; it may come again as another node.
        lab.cli(W2, "swarm leave").ok()?;
        lab.eventually("the node that left is down", |view| view.is_down("w2"))?;
        lab.cli(M1, "node rm w2").ok()?;
        lab.eventually("it is gone", |view| view.node("w2").is_none())?;
        lab.cli(W2, &join(&rotated)).ok()?;
        lab.eventually("and comes again", |view| view.is_ready("w2"))?;
        Ok(())
    });
}

/// The token with another secret.
fn other_secret(token: &str) -> String {
    let (root, secret) = token.rsplit_once('-').unwrap_or((token, ""));
    format!("{root}-{}", turned(secret))
}

/// The token of a swarm with another root certificate.
fn other_root(token: &str) -> String {
    let (rest, secret) = token.rsplit_once('-').unwrap_or((token, ""));
    let (start, root) = rest.rsplit_once('-').unwrap_or((rest, ""));
    format!("{start}-{}-{secret}", turned(root))
}

/// The text with its last character replaced by another digit.
fn turned(text: &str) -> String {
    let last = if text.ends_with('1') { '2' } else { '1' };
    let mut turned = text.to_owned();
    turned.pop();
    turned.push(last);
    turned
}
