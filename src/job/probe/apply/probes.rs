//! The saved probes of a job, checked against its model and each other.

use std::path::Path;

use super::Apply;
use crate::{
    hook::HookPoint,
    job::{
        JobError, Session, SetTo, Setting,
        probe::{LabelSettings, labelled::Labelled},
    },
    model::{hook_points, width},
    probe::saved::{self, Saved},
    sources::{
        labelled::LabelPositions,
        leakage::{Basis, FittedOn, Leakage},
    },
};

/// A saved probe, its name here and its place among the points.
pub(super) struct Ready {
    pub(super) subject: String,
    pub(super) saved: Saved,
    pub(super) place: usize,
}

impl Apply {
    /// The probes, at least one, and the points they read.
    pub(super) fn probes(&self, session: &Session) -> Result<(Vec<Ready>, Vec<HookPoint>), JobError> {
        let (mut all, mut points) = (Vec::new(), Vec::new());
        for path in &self.probe {
            for saved in saved::read(path).map_err(JobError::usage)? {
                let point = point(session, &saved)?;
                let place = points.iter().position(|p| *p == point).unwrap_or(points.len());
                if place == points.len() {
                    points.push(point);
                }
                let run = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let several = self.probe.len() > 1 && path.is_dir();
                let probe = saved.facts.probe.clone();
                let subject = if several { format!("{run}/{probe}") } else { probe };
                all.push(Ready { subject, saved, place });
            }
        }
        let key = |r: &Ready| (r.subject.clone(), r.place);
        if let Some(twice) =
            (1..all.len()).find(|i| all[..*i].iter().any(|other| key(other) == key(&all[*i])))
        {
            let Ready { subject, place, .. } = &all[twice];
            return Err(JobError::setting(
                "probe",
                format!("two probes are called {subject} at {}", points[*place]),
            ));
        }
        agree(&all, self.labels.paired())?;
        Ok((all, points))
    }

    /// Where no other positions were asked for, those of the fit.
    pub(super) fn labels_at(&self, fitted: LabelPositions) -> LabelSettings {
        let mut labels = self.labels.clone();
        labels.positions.get_or_insert(fitted);
        labels
    }
}

/// Where a probe reads in this model.
fn point(session: &Session, saved: &Saved) -> Result<HookPoint, JobError> {
    let (facts, spec) = (&saved.facts, &session.spec);
    let found = hook_points(spec)
        .into_iter()
        .find(|p| p.short_name() == facts.hook && p.layer(spec.n_layers) == facts.layer);
    let name = || format!("the probe {} of {} {}", facts.probe, facts.hook, facts.layer);
    let point =
        found.ok_or_else(|| JobError::usage(format!("{}: this model has no such hook and layer", name())))?;
    let width = width(spec, point).map_or(0, |size| size.iter().product::<usize>());
    let reads = saved.linear.d() / if facts.paired { 2 } else { 1 };
    if width == reads {
        Ok(point)
    } else {
        let what = format!("it reads states of width {reads}, this model's are {width} wide");
        Err(JobError::usage(format!("{}: {what}", name())))
    }
}

/// All probes have the same classes and read texts alike.
fn agree(probes: &[Ready], paired: bool) -> Result<(), JobError> {
    let Some(first) = probes.first() else {
        return Err(JobError::setting("probe", "no saved probe is named"));
    };
    for Ready { subject, saved, .. } in probes {
        let (facts, other) = (&saved.facts, &first.saved.facts);
        let same =
            (&facts.classes, &facts.rare, facts.positions) == (&other.classes, &other.rare, other.positions);
        if !same {
            let both = format!("{subject} and {}", first.subject);
            return Err(JobError::setting("probe", format!("{both} have other classes or positions")));
        }
        if facts.paired != paired {
            let needs = if facts.paired { "needs" } else { "does not read" };
            return Err(JobError::usage(format!(
                "{}: it {needs} pairs ({})",
                SetTo("probe", subject),
                Setting("negation_column")
            )));
        }
    }
    Ok(())
}

/// The items against what the probes of every folder were fitted on.
pub(super) fn leakage(probes: &[Ready], labelled: &Labelled) -> Result<Vec<Leakage>, JobError> {
    let mut folders: Vec<&Path> = probes.iter().filter_map(|probe| probe.saved.path.parent()).collect();
    folders.dedup();
    let one = |folder: &&Path| -> Result<Leakage, JobError> {
        let (name, here) = (format!("the probe of {}", folder.display()), "these data");
        let Some(fitted) = FittedOn::read(folder)? else {
            let why = "its folder has no record of the texts it was fitted on";
            return Ok(Leakage::unknown(name, here, Basis::Words, why));
        };
        let texts = labelled.texts(0..labelled.task.len());
        let texts = texts.iter().map(|(text, items)| (text.as_str(), *items));
        Ok(Leakage::found(name, here, Basis::Words, fitted.overlap_of_texts(texts)))
    };
    folders.iter().map(one).collect()
}
