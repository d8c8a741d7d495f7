//! Times that come again: five fields as in crontab(5), in a time zone.
//!
//! Where a zone's clock is put forward, a time that is left out is as much later as the clock jumped; where it is put back, a time
//! that comes twice counts once, the first time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};

use crate::time::Timestamp;

/// Years that are searched for the next time: the longest gap is that of the 29th of February over a turn of the century.
const YEARS: i16 = 9;

/// Minute, hour, day of the month, month and day of the week, each as the set of values that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day are restricted: then either is enough.
    either_day: bool,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schedule: invalid value {text:?}: {problem}")]
pub struct CronError {
    text: String,
    problem: String,
}

/// Why a text is not a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timezone: invalid value {0:?}: use a name such as Europe/Berlin, or leave it out for UTC")]
pub struct TimeZoneError(String);

/// The zone of this name; UTC without one.
///
/// # Errors
/// When it is unknown.
pub fn time_zone(name: &str) -> Result<TimeZone, TimeZoneError> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| TimeZoneError(name.to_owned()))
}

/// One of the fields.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Seven is Sunday as well.
const WEEKDAY: Field = Field {
    name: "day of the week",
    least: 0,
    most: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Field {
    /// The set of values that a text such as `1-5,*/15` means.
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.most } else { value })
            }
        };
        if from > to {
            return Err(format!("{}: the range {range} is the wrong way round", self.name));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        Ok((from..=to).step_by(step).fold(0, |set, value| set | 1 << value))
    }

    fn step(&self, text: &str) -> Result<u32, String> {
        match text.parse() {
            Ok(step) if step > 0 && step <= self.most => Ok(step),
            _ => Err(format!("{}: the step {text:?} is not a number from 1 to {}", self.name, self.most)),
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let number = text.parse().ok().filter(|number| (self.least..=self.most).contains(number));
        let lower = text.to_ascii_lowercase();
        let named = || self.names.iter().position(|name| *name == lower);
        let named = || named().and_then(|at| u32::try_from(at).ok()).map(|at| at + self.least);
        number
            .or_else(named)
            .ok_or_else(|| format!("{}: {text:?} is not within {} to {}", self.name, self.least, self.most))
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let error = |problem: String| CronError { text: text.to_owned(), problem };
        let written = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = written.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let problem = "use five fields: minute, hour, day of the month, month, day of the week";
            return Err(error(problem.to_owned()));
        };
        let weekdays = WEEKDAY.parse(weekday).map_err(error)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: MINUTE.parse(minute).map_err(error)?,
            hours: HOUR.parse(hour).map_err(error)?,
            days: DAY.parse(day).map_err(error)?,
            months: MONTH.parse(month).map_err(error)?,
            weekdays: weekdays | weekdays >> 7 & 1,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        // A day that no year has (the 30th of February).
        let some_year = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);
        cron.next_local(some_year).ok_or_else(|| error("no year has such a day".to_owned()))?;
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Cron {
    /// The first time after `after`; nothing when time itself ends before.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let instant = jiff::Timestamp::from_nanosecond(i128::from(after.as_nanos())).ok()?;
        let mut from = next_minute(zone.to_datetime(instant))?;
        loop {
            let local = self.next_local(from)?;
            let found = zone.to_ambiguous_timestamp(local).compatible().ok()?;
            // The second of two equal local times was counted with the first.
            if found > instant {
                return u64::try_from(found.as_nanosecond()).ok().map(Timestamp::from_nanos);
            }
            from = next_minute(local)?;
        }
    }

    /// The first local time that matches, `from` included.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest = from.time();
        let end = date.year().checked_add(YEARS)?;
        while date.year() <= end {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = Time::midnight();
                continue;
            }
            if self.is_day(date)
                && let Some(time) = self.next_time(earliest)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            earliest = Time::midnight();
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    fn next_time(&self, from: Time) -> Option<Time> {
        let hours = (from.hour()..24).filter(|hour| has(self.hours, *hour));
        hours
            .flat_map(|hour| (0..60).map(move |minute| (hour, minute)))
            .filter(|(_, minute)| has(self.minutes, *minute))
            .find(|at| *at >= (from.hour(), from.minute()))
            .and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

fn next_minute(local: DateTime) -> Option<DateTime> {
    let minute: Span = 1.minute();
    let full = local.date().at(local.hour(), local.minute(), 0, 0);
    full.checked_add(minute).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(cron: &str, zone: &str, after: &str) -> String {
        let cron: Cron = cron.parse().unwrap();
        let after: jiff::Timestamp = after.parse().unwrap();
        let after = Timestamp::from_nanos(u64::try_from(after.as_nanosecond()).unwrap());
        let found = cron.next_after(after, &time_zone(zone).unwrap()).unwrap();
        jiff::Timestamp::from_nanosecond(i128::from(found.as_nanos())).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_found() {
        for (cron, after, expected) in [
            ("* * * * *", "2026-11-21T10:00:30Z", "2026-11-21T10:01:00Z"),
            ("*/15 * * * *", "2026-11-21T10:00:00Z", "2026-11-21T10:15:00Z"),
            ("5 4 * * *", "2026-11-21T10:00:00Z", "2026-11-22T04:05:00Z"),
            ("0 0 1 */3 *", "2026-11-21T10:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 9 * * mon-fri", "2026-11-21T10:00:00Z", "2026-11-23T09:00:00Z"),
            ("0 9 * * 7", "2026-11-21T10:00:00Z", "2026-11-22T09:00:00Z"),
            // Both kinds of day: either is enough.
            ("0 0 13 * fri", "2026-11-21T10:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 29 feb *", "2026-11-21T10:00:00Z", "2028-02-29T00:00:00Z"),
            ("10-20/5,50 8 * * *", "2026-11-21T08:20:00Z", "2026-11-21T08:50:00Z"),
            ("@daily", "2026-11-21T10:00:00Z", "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(next(cron, "", after), expected, "{cron}");
        }
    }

    #[test]
    fn clocks_are_put_forward_and_back() {
        // Berlin, 28 March 2027: 02:00 becomes 03:00. 31 October 2027: 03:00 becomes 02:00.
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z"), "2027-03-28T01:30:00Z");
        let first = next("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z");
        assert_eq!(first, "2027-10-31T00:30:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Berlin", &first), "2027-11-01T01:30:00Z");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, problem) in [
            ("* * * *", "use five fields"),
            ("60 * * * *", "minute: \"60\" is not within 0 to 59"),
            ("* * 0 * *", "day of the month: \"0\" is not within 1 to 31"),
            ("* * * xyz *", "month: \"xyz\" is not within 1 to 12"),
            ("5-1 * * * *", "the range 5-1 is the wrong way round"),
            ("*/0 * * * *", "the step \"0\" is not a number"),
            ("0 0 30 2 *", "no year has such a day"),
        ] {
            let error = text.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(text), "{error}");
        }
        assert!(time_zone("Mars/Olympus").unwrap_err().to_string().contains("Mars/Olympus"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9*/,a-z -]{0,24}") {
            let _ = text.parse::<Cron>();
        }

        #[test]
        fn the_next_time_is_later_and_nothing_matches_between(
            minute in 0u32..60, hour in 0u32..24, step in 1u32..30, after in 1_700_000_000u64..2_000_000_000,
        ) {
            let cron: Cron = format!("{minute},*/{step} {hour},3 * * *").parse().unwrap();
            let zone = time_zone("America/New_York").unwrap();
            let after = Timestamp::from_secs(after);
            let found = cron.next_after(after, &zone).unwrap();
            prop_assert!(found > after);
            let between = Timestamp::from_nanos(u64::midpoint(after.as_nanos(), found.as_nanos()));
            if between > after {
                prop_assert_eq!(cron.next_after(between, &zone).unwrap(), found);
            }
        }
    }
}
