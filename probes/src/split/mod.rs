//! Splits by group: a document, an entity, a template is wholly on one side, so that a probe is never tested on what it
//! has seen.
//!
//! Groups come in an order drawn from (seed, group), large ones first, and each goes to the part that its rows bring
//! nearest to its share of every class (iterative stratification: Sechidis, Tsoumakas & Vlahavas 2011, "On the
//! stratification of multi-label data"; here with the χ² distance). The order of the rows does not matter.

mod filling;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use crate::draw::{Purpose, draw};
use crate::groups::Groups;
use crate::{Error, Labels};
use filling::Filling;

const PURPOSE: &Purpose = b"layerscope/grouped-split";

/// The share of rows of each part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// What probes are fitted to.
    pub train: f64,
    /// What penalties and layers are chosen on; may be 0.
    pub validation: f64,
    /// What is looked at once.
    pub test: f64,
}

impl Default for Shares {
    /// 60 %, 20 %, 20 %.
    fn default() -> Self {
        Self { train: 0.6, validation: 0.2, test: 0.2 }
    }
}

/// One part of a split, and what came out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The rows, ascending.
    pub rows: Vec<usize>,
    /// How many groups they are.
    pub groups: usize,
    /// Rows of each class, `(n_classes,)`; for numbers one entry.
    pub classes: Vec<usize>,
}

/// Train, validation and test.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Split {
    pub train: Part,
    pub validation: Part,
    pub test: Part,
}

impl Split {
    /// Splits rows by their group (`groups`, one id per row) with the parts' shares of every class as near to `shares`
    /// as whole groups allow. Numbers are split as one class.
    ///
    /// # Errors
    /// [`Error::Shares`], [`Error::TooFewGroups`], [`Error::ClassInTooFewGroups`], [`Error::PartLacksClass`], and
    /// labels that do not fit the rows.
    pub fn new(groups: &[u64], labels: &Labels<'_>, shares: Shares, seed: u64) -> Result<Self, Error> {
        let Shares { train, validation, test } = shares;
        let sound = train > 0.0 && validation >= 0.0 && test > 0.0;
        if !sound || (train + validation + test - 1.0).abs() > 1e-9 {
            return Err(Error::Shares { train, validation, test });
        }
        let rows = Rows::new(groups, labels)?;
        let shares = [train, validation, test];
        let [train, validation, test] = rows.parts(&shares, seed, &["train", "validation", "test"])?;
        Ok(Self { train, validation, test })
    }
}

/// One fold of a cross-validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Every other row.
    pub train: Part,
    /// The rows of this fold.
    pub test: Part,
}

/// `k` folds of whole groups, alike in size and classes: every row is tested once.
///
/// # Errors
/// As [`Split::new`], and [`Error::TooFewFolds`].
pub fn folds(groups: &[u64], labels: &Labels<'_>, k: usize, seed: u64) -> Result<Vec<Fold>, Error> {
    let rows = Rows::new(groups, labels)?;
    if k < 2 {
        return Err(Error::TooFewFolds { got: k });
    }
    let names: Vec<String> = (0..k).map(|fold| fold.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let part_of = rows.assign(&vec![1.0 / k as f64; k], seed, &names)?;
    let fold =
        |fold| Fold { train: rows.part(&part_of, |p| p != fold), test: rows.part(&part_of, |p| p == fold) };
    Ok((0..k).map(fold).collect())
}

/// Rows with their groups and classes.
struct Rows {
    groups: Groups,
    y: Vec<usize>,
    n_classes: usize,
    /// Rows of each class in each group, `[groups, n_classes]`.
    counts: Vec<usize>,
}

impl Rows {
    fn new(group_of_row: &[u64], labels: &Labels<'_>) -> Result<Self, Error> {
        let (y, n_classes) = classes(labels)?;
        if y.len() != group_of_row.len() {
            return Err(Error::Length { rows: group_of_row.len(), labels: y.len() });
        }
        if y.is_empty() {
            return Err(Error::Empty);
        }
        let groups = Groups::new(group_of_row);
        let mut counts = vec![0; groups.len() * n_classes];
        for (&group, &class) in groups.of_row.iter().zip(&y) {
            counts[group * n_classes + class] += 1;
        }
        Ok(Self { groups, y, n_classes, counts })
    }

    fn of_group(&self, group: usize) -> &[usize] {
        &self.counts[group * self.n_classes..][..self.n_classes]
    }

    fn parts<const N: usize>(
        &self,
        shares: &[f64; N],
        seed: u64,
        names: &[&str; N],
    ) -> Result<[Part; N], Error> {
        let part_of = self.assign(shares, seed, names)?;
        Ok(std::array::from_fn(|part| self.part(&part_of, |p| p == part)))
    }

    /// The part of every group.
    fn assign(&self, shares: &[f64], seed: u64, names: &[&str]) -> Result<Vec<usize>, Error> {
        self.enough_groups(shares.iter().filter(|&&share| share > 0.0).count())?;
        let mut filling = Filling::new(&self.classes(), self.groups_of_class(), shares);
        let mut part_of = vec![0; self.groups.len()];
        for group in self.order(seed) {
            part_of[group] = filling.place(self.of_group(group));
        }
        match filling.lacking() {
            Some((part, class)) => {
                Err(Error::PartLacksClass { part: names[part].to_owned(), class: class.into() })
            }
            None => Ok(part_of),
        }
    }

    fn enough_groups(&self, parts: usize) -> Result<(), Error> {
        if self.groups.len() < parts {
            return Err(Error::TooFewGroups { groups: self.groups.len(), parts });
        }
        for (class, groups) in self.groups_of_class().into_iter().enumerate() {
            if groups < parts {
                return Err(Error::ClassInTooFewGroups { class: class.into(), groups, parts });
            }
        }
        Ok(())
    }

    /// Rows of each class.
    fn classes(&self) -> Vec<usize> {
        let mut classes = vec![0; self.n_classes];
        for &class in &self.y {
            classes[class] += 1;
        }
        classes
    }

    /// How many groups have a row of each class.
    fn groups_of_class(&self) -> Vec<usize> {
        let mut of_class = vec![0; self.n_classes];
        for group in self.counts.chunks_exact(self.n_classes) {
            of_class.iter_mut().zip(group).for_each(|(n, &rows)| *n += usize::from(rows > 0));
        }
        of_class
    }

    /// Groups of twice the rows come first, so that small ones can even out what large ones leave; else by draw.
    fn order(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_cached_key(|&group| {
            let (id, rows) = (self.groups.ids[group], self.of_group(group).iter().sum::<usize>());
            (Reverse(rows.ilog2()), draw(seed, PURPOSE, id, 0), id)
        });
        order
    }

    fn part(&self, part_of: &[usize], within: impl Fn(usize) -> bool) -> Part {
        let inside = |group: usize| within(part_of[group]);
        let rows: Vec<usize> = (0..self.y.len()).filter(|&row| inside(self.groups.of_row[row])).collect();
        let mut classes = vec![0; self.n_classes];
        for &row in &rows {
            classes[self.y[row]] += 1;
        }
        Part { rows, groups: (0..self.groups.len()).filter(|&group| inside(group)).count(), classes }
    }
}

/// A class per row; numbers are one class.
fn classes(labels: &Labels<'_>) -> Result<(Vec<usize>, usize), Error> {
    match *labels {
        Labels::Numbers(y) => Ok((vec![0; y.nrows()], 1)),
        Labels::Classes { y, n_classes } => {
            if let Some((row, &class)) = y.iter().enumerate().find(|(_, class)| **class as usize >= n_classes)
            {
                return Err(Error::NoSuchClass { row, class, n_classes });
            }
            Ok((y.iter().map(|&class| class as usize).collect(), n_classes))
        }
    }
}
