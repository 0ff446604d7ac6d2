//! What a person should know of labelled data before a probe is fitted to them.

use super::dropped::Dropped;
use super::error::LabelledError;
use super::fold::fold;
use super::label::LabelValues;
use super::noted::{Noted, line};
use super::set::{LabelledSet, Unit};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// How often a class occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Labels of the class.
    pub labels: usize,
    /// Groups that have one.
    pub groups: usize,
}

/// Texts equal to an earlier one in everything but case and space (spans: with an equal span).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// With the labels of the earlier one.
    pub same_label: Noted,
    /// With other labels: no probe can have both right.
    pub other_label: Noted,
    /// In another group than the earlier one: a split may have it on both sides.
    pub across_groups: Noted,
}

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What a label belongs to.
    pub unit: Unit,
    /// Texts with a label.
    pub texts: usize,
    /// Labels.
    pub labels: usize,
    /// Classes in the order of the vocabulary; none for numbers.
    pub classes: Vec<ClassCount>,
    /// Least, mean and greatest label, where labels are numbers.
    pub numbers: Option<[f64; 3]>,
    /// Whether classes have the look of numbers to regress on: fractions.
    pub fractions: bool,
    /// Groups, and what they are.
    pub groups: (usize, String),
    /// Repeated texts.
    pub duplicates: Duplicates,
    /// What was left out while reading.
    pub dropped: Dropped,
}

/// Looks at labels, groups and repeated texts.
///
/// # Errors
/// When all labels are equal.
pub fn check(set: &LabelledSet) -> Result<Report, LabelledError> {
    set.labels.check_differ("")?;
    let classes = classes(set);
    let fraction =
        |class: &ClassCount| class.name.parse().is_ok_and(|x: f64| x.is_finite() && x.fract() != 0.0);
    let number = |class: &ClassCount| class.name.parse::<f64>().is_ok();
    Ok(Report {
        unit: set.unit,
        texts: set.texts.len(),
        labels: set.labels.len(),
        fractions: classes.iter().all(number) && classes.iter().any(fraction),
        classes,
        numbers: numbers(&set.labels),
        groups: (set.groups.len(), set.grouping.clone()),
        duplicates: duplicates(set),
        dropped: set.dropped.clone(),
    })
}

fn classes(set: &LabelledSet) -> Vec<ClassCount> {
    let LabelValues::Classes { y, names } = &set.labels else { return Vec::new() };
    let mut labels = vec![0; names.len()];
    let mut groups = vec![HashSet::new(); names.len()];
    for text in &set.texts {
        for &class in &y[text.targets.clone()] {
            labels[class as usize] += 1;
            groups[class as usize].insert(text.group);
        }
    }
    let counts = names.iter().zip(labels).zip(groups);
    counts
        .map(|((name, labels), groups)| ClassCount { name: name.clone(), labels, groups: groups.len() })
        .collect()
}

fn numbers(labels: &LabelValues) -> Option<[f64; 3]> {
    let LabelValues::Numbers(y) = labels else { return None };
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let least = y.iter().copied().fold(f64::INFINITY, f64::min);
    Some([least, mean, y.iter().copied().fold(f64::NEG_INFINITY, f64::max)])
}

fn duplicates(set: &LabelledSet) -> Duplicates {
    let mut first: HashMap<(String, Option<Range<usize>>), usize> = HashMap::new();
    let mut found = Duplicates::default();
    for (i, text) in set.texts.iter().enumerate() {
        // One text with several spans is no repetition; one sentence with several words is one text.
        let span = if set.unit == Unit::Span { set.targets[text.targets.start].span.clone() } else { None };
        let earlier = *first.entry((fold(&text.text), span)).or_insert(i);
        if earlier == i {
            continue;
        }
        let earlier = &set.texts[earlier];
        let place = || format!("{} repeats {}", text.place, earlier.place);
        if same_labels(&set.labels, &earlier.targets, &text.targets) {
            found.same_label.add(place);
        } else {
            found.other_label.add(place);
        }
        if earlier.group != text.group {
            found.across_groups.add(place);
        }
    }
    found
}

fn same_labels(labels: &LabelValues, a: &Range<usize>, b: &Range<usize>) -> bool {
    match labels {
        LabelValues::Classes { y, .. } => y[a.clone()] == y[b.clone()],
        LabelValues::Numbers(y) => y[a.clone()] == y[b.clone()],
    }
}

impl Report {
    fn counts(&self) -> String {
        let share = |class: &&ClassCount| {
            let percent = 100.0 * class.labels as f64 / self.labels as f64;
            format!("{:?} {} ({percent:.1} %)", class.name, class.labels)
        };
        let mut order: Vec<_> = self.classes.iter().collect();
        if order.len() > 4 {
            order.sort_by_key(|class| std::cmp::Reverse(class.labels));
        }
        shortened(&order, 8, share)
    }
}

/// At most `most` of these, and how many more there are.
fn shortened<T>(all: &[T], most: usize, show: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<_> = all.iter().take(most).map(show).collect();
    if all.len() > most {
        shown.push(format!("{} more", all.len() - most));
    }
    shown.join(", ")
}

/// A few lines for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Text => "labelled texts".into(),
            Unit::Span => format!("labelled spans in {} rows", self.texts),
            Unit::Word => format!("labelled words in {} sentences", self.texts),
        };
        write!(f, "{:<10} {} {unit}", "data", self.labels)?;
        match self.numbers {
            Some([least, mean, greatest]) => {
                write!(f, "\n{:<10} {least} to {greatest}, mean {mean:.4}", "numbers")?;
            }
            None => write!(f, "\n{:<10} {}: {}", "classes", self.classes.len(), self.counts())?,
        }
        if self.fractions {
            write!(f, "\n{:<10} classes look like numbers: ask for numbers to regress on them", "warning")?;
        }
        write!(f, "\n{:<10} {} {}", "groups", self.groups.0, self.groups.1)?;
        let repeats = [
            self.duplicates.same_label.clause("with the same labels"),
            self.duplicates.other_label.clause("with other labels"),
            self.duplicates.across_groups.clause("across groups, so a split may leak"),
        ];
        line(f, "repeats", repeats)?;
        write!(f, "{}", self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::labelled::LabelledOptions;
    use crate::sources::labelled::set::tests::open;

    fn report(csv: &str, options: &LabelledOptions) -> Result<Report, String> {
        check(&open("a.csv", csv, options)?).map_err(|error| error.to_string())
    }

    fn grouped() -> LabelledOptions {
        LabelledOptions { group_column: Some("g".into()), ..Default::default() }
    }

    #[test]
    fn counts_groups_and_repeats() {
        let csv = "text,label,g\nA  b,x,1\na B,x,2\na b,y,1\nc,y,2\nd,y,3\n,y,4\ne,,5\nf,y,\n";
        let report = report(csv, &grouped()).unwrap();
        assert_eq!((report.texts, report.labels, report.groups.0), (6, 6, 3));
        let count = |name: &str, labels, groups| ClassCount { name: name.into(), labels, groups };
        assert_eq!(report.classes, [count("x", 2, 1), count("y", 4, 3)]);
        let noted = |count, first: &str| Noted { count, first: Some(first.into()) };
        assert_eq!(report.duplicates.same_label, noted(1, "a.csv:3 repeats a.csv:2"));
        assert_eq!(report.duplicates.other_label, noted(1, "a.csv:4 repeats a.csv:2"));
        assert_eq!(report.duplicates.across_groups, Noted::default(), "groups 1 and 2 are one");
        assert_eq!((report.dropped.empty.count, report.dropped.unlabelled.count), (1, 1));
        let text = report.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "data       6 labelled texts");
        assert_eq!(lines[1], "classes    2: \"x\" 2 (33.3 %), \"y\" 4 (66.7 %)");
        assert_eq!(
            lines[2],
            "groups     3 groups of equal \"g\", 1 of them joined to others that share a text"
        );
        assert!(
            lines[3].starts_with("repeats    1 with the same labels (first a.csv:3 repeats a.csv:2), 1 with")
        );
        assert!(
            lines[4].starts_with("left out   1 without a label (first a.csv:8), 1 without text"),
            "{text}"
        );
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn words_for_a_missing_label_are_named_and_can_be_kept() {
        let csv = "text,label\na,NA\nb,x\nc,None\nd,y\ne,\nf,NA\ng,na\n";
        let found = report(csv, &LabelledOptions::default()).unwrap();
        let says = "left out   1 without a label (first a.csv:6), 2 labelled \"NA\" (first a.csv:2), 1 labelled \"None\" (first a.csv:4), \
                    read as missing: --keep-missing-labels makes classes of such";
        assert_eq!(found.to_string().lines().last(), Some(says));
        assert_eq!(
            found.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(),
            ["na", "x", "y"]
        );
        let keep = LabelledOptions { keep_missing: true, ..Default::default() };
        let kept = report(csv, &keep).unwrap();
        assert_eq!(
            kept.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(),
            ["NA", "None", "na", "x", "y"]
        );
        assert_eq!((kept.labels, kept.dropped.unlabelled.count, kept.dropped.missing.len()), (6, 1, 0));
        let strict = LabelledOptions { strict: true, ..Default::default() };
        let error = report(csv, &strict).unwrap_err();
        assert!(
            error.starts_with("a.csv:2: \"label\" is \"NA\", which is read as missing (--strict"),
            "{error}"
        );
    }

    #[test]
    fn one_class_or_one_number_is_an_error() {
        let none = LabelledOptions::default();
        let error = report("text,label\na,1\nb,1\nc,\n", &none).unwrap_err();
        assert_eq!(error, "all 2 labels are \"1\": a probe needs at least two classes");
        let numbers = LabelledOptions { numbers: true, ..none };
        assert!(report("text,label\na,1\nb,1.0\n", &numbers).unwrap_err().contains("nothing to regress on"));
        let report = report("text,label\na,1\nb,2.5\n", &numbers).unwrap();
        assert_eq!(report.numbers, Some([1.0, 1.75, 2.5]));
        assert!(report.to_string().contains("numbers    1 to 2.5, mean 1.7500"));
    }

    #[test]
    fn fractions_as_classes_warn() {
        let none = LabelledOptions::default();
        assert!(report("text,label\na,0.5\nb,2\n", &none).unwrap().fractions);
        assert!(!report("text,label\na,1.0\nb,2.0\n", &none).unwrap().fractions);
        assert!(!report("text,label\na,0.5\nb,high\n", &none).unwrap().fractions);
    }

    #[test]
    fn spans_of_one_text_do_not_repeat() {
        let span_columns = Some(("s".into(), "e".into()));
        let options = LabelledOptions { span_columns, ..Default::default() };
        let csv = "text,label,s,e\na b,x,0,1\na b,y,2,3\nA b,x,0,1\n";
        let duplicates = report(csv, &options).unwrap().duplicates;
        assert_eq!((duplicates.same_label.count, duplicates.other_label.count), (1, 0));
        assert_eq!(duplicates.across_groups.count, 0, "equal texts share a group");
    }
}
