use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn check() -> HealthCheck {
    HealthCheck {
        interval: 30 * SECOND,
        start_interval: 5 * SECOND,
        retries: 3,
        ..HealthCheck::of(vec!["probe".into()])
    }
}

fn result(code: i32) -> HealthResult {
    HealthResult { code: Some(code), output: format!("said {code}"), ..HealthResult::default() }
}

fn started(check: HealthCheck) -> Monitor {
    Monitor::new(check, Duration::ZERO, Health::default())
}

/// Hands in this result until it is unhealthy; the seconds of the checks at which a failure was counted.
fn counted(monitor: &mut Monitor, result: &HealthResult) -> Vec<u64> {
    let mut counted = Vec::new();
    while monitor.health.state != HealthState::Unhealthy {
        let failures = monitor.health.failures;
        monitor.take(result.clone());
        if monitor.health.failures > failures {
            counted.push(monitor.elapsed.as_secs());
        }
    }
    counted
}

#[test]
fn a_container_that_never_serves_is_unhealthy_after_its_retries() {
    assert_eq!(counted(&mut started(check()), &result(1)), [30, 60, 90]);
    // Also where the intervals do not fit into each other.
    let odd = HealthCheck { interval: 7 * SECOND, ..check() };
    assert_eq!(counted(&mut started(odd), &result(1)), [7, 14, 21]);
    // The interval begins when a check has ended.
    let slow = HealthResult { took: 2 * SECOND, code: None, ..HealthResult::default() };
    let quick = HealthCheck { interval: SECOND, ..check() };
    assert_eq!(counted(&mut started(quick), &slow), [3, 6, 9]);
}

#[test]
fn failures_of_the_start_period_do_not_count() {
    let slow = HealthCheck { start_period: 60 * SECOND, ..check() };
    let mut monitor = started(slow.clone());
    assert_eq!(monitor.wait(), 5 * SECOND);
    assert_eq!(counted(&mut monitor, &result(1)), [60, 90, 120]);
    // The first success ends it.
    let mut monitor = started(slow);
    monitor.take(result(1));
    assert!(monitor.take(result(0)));
    assert_eq!((monitor.health.state, monitor.wait()), (HealthState::Healthy, 30 * SECOND));
    assert!(monitor.take(result(1)));
    assert_eq!(monitor.health.failures, 1);
}

#[test]
fn the_first_success_is_found_soon_and_one_success_forgives_all_failures() {
    let mut monitor = started(check());
    assert_eq!(monitor.wait(), 5 * SECOND);
    for code in [1, 0, 1, 1, 0, 1, 1] {
        monitor.take(result(code));
        assert_ne!(monitor.health.state, HealthState::Unhealthy);
    }
    assert_eq!((monitor.health.state, monitor.health.failures), (HealthState::Healthy, 2));
    monitor.take(result(1));
    assert_eq!(monitor.health.state, HealthState::Unhealthy);
}

#[test]
fn only_changes_are_news() {
    let mut monitor = started(check());
    let news: Vec<bool> = [1, 1, 0, 0, 0, 1, 1, 0, 0].map(|code| monitor.take(result(code))).into();
    // The first result; the first success; two failures; their end.
    assert_eq!(news, [true, false, true, false, false, true, true, true, false]);
}

#[test]
fn what_was_known_before_a_restart_counts_on() {
    let known = Health { state: HealthState::Healthy, failures: 2, results: vec![result(1)] };
    let mut monitor = Monitor::new(check(), 500 * SECOND, known);
    assert!(monitor.take(result(1)));
    assert_eq!(monitor.health.state, HealthState::Unhealthy);
    let known = Health { failures: 1, ..Health::default() };
    let mut monitor = Monitor::new(check(), 40 * SECOND, known);
    assert_eq!(counted(&mut monitor, &result(1)), [70, 100]);
}

#[test]
fn the_last_results_are_kept_and_the_last_one_longest() {
    let mut monitor = started(check());
    for code in 0..9 {
        monitor.take(HealthResult { output: "ä".repeat(9000), ..result(code) });
    }
    let kept = &monitor.health.results;
    assert_eq!(kept.iter().map(|result| result.code.unwrap()).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    let lengths: Vec<usize> = kept.iter().map(|result| result.output.len()).collect();
    assert_eq!(lengths, [256, 256, 256, 256, OUTPUT_KEPT]);
}

#[test]
fn why_it_is_unhealthy_is_one_line() {
    let why = |code, output: &str| {
        let results =
            vec![result(9), HealthResult { code, output: output.into(), ..HealthResult::default() }];
        why_unhealthy(Some(&Health { state: HealthState::Unhealthy, failures: 3, results }))
    };
    assert_eq!(why(Some(1), "no\n  route\n").unwrap(), "unhealthy: no route");
    assert!(why(Some(7), "\n").unwrap().contains("exit status 7"));
    assert!(why(None, &"x".repeat(999)).unwrap().len() < 400);
    assert_eq!(why_unhealthy(Some(&Health::default())), None);
    assert_eq!(why_unhealthy(None), None);
}

proptest! {
    /// Whatever the check takes and answers: it is given up only after its retries in a row, never within the start period
    /// before the first success, and never while the last check succeeded.
    #[test]
    fn nothing_is_given_up_early(
        retries in 1u32..5,
        start_period in 0u64..100,
        interval in 1u64..40,
        start_interval in 1u64..40,
        results in prop::collection::vec((prop::option::of(0i32..2), 0u64..20), 1..60),
    ) {
        let seconds = Duration::from_secs;
        let check = HealthCheck {
            retries,
            start_period: seconds(start_period),
            interval: seconds(interval),
            start_interval: seconds(start_interval),
            ..check()
        };
        let mut monitor = started(check);
        let (mut in_a_row, mut succeeded) = (0, false);
        for (code, took) in results {
            let wait = monitor.wait();
            prop_assert!(!wait.is_zero() && wait <= seconds(interval));
            monitor.take(HealthResult { code, took: seconds(took), ..HealthResult::default() });
            in_a_row = if code == Some(0) { 0 } else { in_a_row + 1 };
            succeeded |= code == Some(0);
            prop_assert!(monitor.health.failures <= in_a_row);
            if monitor.health.state == HealthState::Unhealthy {
                prop_assert!(in_a_row >= retries);
                prop_assert!(succeeded || monitor.elapsed >= seconds(start_period));
                break;
            }
            prop_assert_eq!(monitor.health.state == HealthState::Healthy, succeeded);
        }
    }
}
