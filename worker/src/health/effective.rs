//! The check of a container: the service's words over the image's over Docker's defaults.

use std::time::Duration;

use coracle_image::document::config::{HealthCheck as ImageCheck, HealthTest as ImageTest};
use coracle_model::health::{HealthCheck, HealthConfig, HealthTest};

/// Docker's bound: checks that follow each other faster would keep a node busy with nothing else.
const SHORTEST: Duration = Duration::from_millis(1);
/// What the runtime accepts of one program.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The check with everything decided, where zero says nothing, as with Docker; none where neither service nor image has one, or the service wants none.
pub(crate) fn effective(service: &HealthConfig, image: Option<&ImageCheck>) -> Option<HealthCheck> {
    let command = match (&service.test, image.map(|image| &image.test)) {
        (HealthTest::Disabled, _) | (HealthTest::Image, None | Some(ImageTest::Disabled)) => return None,
        (HealthTest::Command(words), _) | (HealthTest::Image, Some(ImageTest::Command(words))) => {
            words.clone()
        }
        (HealthTest::Shell(line), _) | (HealthTest::Image, Some(ImageTest::Shell(line))) => shell(line),
    };
    let default = HealthCheck::of(command);
    let decide = |service: Option<Duration>, image: Option<Duration>, default: Duration| {
        let said = |time: &Duration| !time.is_zero();
        service.filter(said).or(image.filter(said)).unwrap_or(default)
    };
    let of_image = |field: fn(&ImageCheck) -> Option<Duration>| image.and_then(field);
    let retries = service.retries.or(image.and_then(|image| image.retries)).filter(|count| *count > 0);
    Some(HealthCheck {
        interval: decide(service.interval, of_image(|image| image.interval), default.interval).max(SHORTEST),
        timeout: decide(service.timeout, of_image(|image| image.timeout), default.timeout)
            .clamp(SHORTEST, LONGEST),
        retries: retries.unwrap_or(default.retries),
        start_period: decide(
            service.start_period,
            of_image(|image| image.start_period),
            default.start_period,
        ),
        start_interval: decide(
            service.start_interval,
            of_image(|image| image.start_interval),
            default.start_interval,
        )
        .max(SHORTEST),
        command: default.command,
    })
}

/// Docker's shell for a line.
fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn image(test: ImageTest) -> ImageCheck {
        ImageCheck {
            test,
            interval: Some(7 * SECOND),
            timeout: None,
            start_period: Some(3 * SECOND),
            start_interval: None,
            retries: Some(9),
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_service_decides_what_is_run_then_the_image() {
        let of_image = image(ImageTest::Shell("exit 0".into()));
        let command = |test: HealthTest, image: Option<&ImageCheck>| {
            effective(&HealthConfig { test, ..HealthConfig::default() }, image).map(|check| check.command)
        };
        let line = |line: &str| Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]);
        assert_eq!(command(HealthTest::Image, None), None);
        assert_eq!(command(HealthTest::Image, Some(&of_image)), line("exit 0"));
        assert_eq!(command(HealthTest::Image, Some(&image(ImageTest::Disabled))), None);
        assert_eq!(command(HealthTest::Disabled, Some(&of_image)), None);
        assert_eq!(command(HealthTest::Shell("a && b".into()), Some(&of_image)), line("a && b"));
        assert_eq!(command(HealthTest::Shell("a".into()), Some(&image(ImageTest::Disabled))), line("a"));
        assert_eq!(command(HealthTest::Command(words("probe -q")), None), Some(words("probe -q")));
        let of_command = image(ImageTest::Command(words("own")));
        assert_eq!(command(HealthTest::Image, Some(&of_command)), Some(words("own")));
    }

    #[test]
    fn times_are_the_services_then_the_images_then_dockers() {
        let of_image = image(ImageTest::Command(words("own")));
        let service = HealthConfig {
            timeout: Some(2 * SECOND),
            interval: Some(Duration::ZERO),
            start_period: Some(Duration::ZERO),
            ..HealthConfig::default()
        };
        let check = effective(&service, Some(&of_image)).unwrap();
        let expected = HealthCheck {
            command: words("own"),
            interval: 7 * SECOND,
            timeout: 2 * SECOND,
            retries: 9,
            start_period: 3 * SECOND,
            start_interval: 5 * SECOND,
        };
        assert_eq!(check, expected);
        let tiny = Some(Duration::from_nanos(1));
        let test = HealthTest::Command(words("own"));
        let service = HealthConfig { test, interval: tiny, retries: Some(0), ..HealthConfig::default() };
        let check = effective(&service, None).unwrap();
        assert_eq!((check.interval, check.retries, check.timeout), (SHORTEST, 3, 30 * SECOND));
    }
}
