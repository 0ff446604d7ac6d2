//! The time that `strftime_now` tells.

use std::{fmt::Write as _, str::FromStr};

use chrono::{Local, NaiveDate, NaiveDateTime};

/// The moment that a chat takes for the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock(NaiveDateTime);

impl Clock {
    /// The start of this day, here: a command that is repeated on the same day renders the same.
    pub fn today() -> Self {
        Self(Local::now().date_naive().into())
    }

    /// As Python's `strftime`.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let mut written = String::new();
        let wrong = || format!("strftime_now does not know the format {format:?}");
        write!(written, "{}", self.0.format(format)).map_err(|_| wrong())?;
        Ok(written)
    }
}

impl FromStr for Clock {
    type Err = String;

    /// `2025-01-31` or `2025-01-31T12:30:00`.
    fn from_str(text: &str) -> Result<Self, String> {
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
        let moment = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").ok().or_else(day);
        moment
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no date such as 2025-01-31 or 2025-01-31T12:30:00"))
    }
}

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let clock: Clock = "2024-02-29".parse().unwrap();
        assert_eq!(clock.to_string(), "2024-02-29T00:00:00");
        assert_eq!(clock.format("%d %b %Y, %A").unwrap(), "29 Feb 2024, Thursday");
        assert!(clock.format("%Q").is_err());
        let later: Clock = "2024-02-29T13:05:09".parse().unwrap();
        assert_eq!(later.format("%H:%M:%S %p %j %-d").unwrap(), "13:05:09 PM 060 29");
        assert!("29.2.2024".parse::<Clock>().is_err());
    }
}
