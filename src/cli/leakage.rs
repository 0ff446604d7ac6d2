//! `--strict-leakage`: lenses and probes on what they were fitted on are named, or refused.

use std::path::{Path, PathBuf};

use clap::Args;
use layerscope::{
    lens::fit::Split,
    results::run::Manifest,
    sources::leakage::{Basis, EqualDocuments, FittedOn, Leakage, across, lead_of},
    sources::text::Window,
};

use super::{
    exit::Failure,
    lens::load::Asked,
    output::{Output, shown},
    source::Source,
};

/// What is done about leakage.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct LeakageArgs {
    /// Refuse to measure on what was fitted on (exit 3), in place of a warning
    #[arg(long)]
    strict_leakage: bool,
}

impl LeakageArgs {
    /// Says what was found, puts it into the manifest, and refuses it if asked to.
    pub(crate) fn judge(
        self,
        found: Vec<Leakage>,
        manifest: &mut Manifest,
        output: Output,
    ) -> Result<(), Failure> {
        if let Some(leak) = found.iter().find(|one| one.leaks()).filter(|_| self.strict_leakage) {
            return Err(Failure::check(format!("{leak}; --strict-leakage refuses this")));
        }
        for one in &found {
            if one.leaks() || (self.strict_leakage && one.overlap.is_none()) {
                output.warn(one.to_string());
            } else {
                output.note(one.to_string());
            }
        }
        manifest.leakage.extend(found);
        Ok(())
    }

    /// Holds a text against what each of these lenses was fitted on.
    pub(crate) fn of_lenses(
        self,
        asked: &[Asked],
        text: &[Window],
        source: &Source,
        manifest: &mut Manifest,
        output: Output,
    ) -> Result<(), Failure> {
        if let Some(said) = EqualDocuments::of(text).said() {
            output.warn(format!("{said}: intervals count each as evidence of its own, and are too narrow"));
        }
        let folders: Vec<(PathBuf, bool)> = asked.iter().filter_map(Asked::fitted_in).collect();
        self.of_folders(&folders, text, source, manifest, output)
    }

    /// The same of lenses by their folders, and whether what they were fitted on can be looked up there.
    pub(crate) fn of_folders(
        self,
        folders: &[(PathBuf, bool)],
        text: &[Window],
        source: &Source,
        manifest: &mut Manifest,
        output: Output,
    ) -> Result<(), Failure> {
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        let one = |(folder, known): &(PathBuf, bool)| of_lens(folder, *known, (text, &lead), manifest);
        let found = folders.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        self.judge(found, manifest, output)
    }
}

/// A text against what the lens in a folder was fitted on.
fn of_lens(
    folder: &Path,
    known: bool,
    (text, lead): (&[Window], &[u32]),
    manifest: &Manifest,
) -> Result<Leakage, Failure> {
    let name = shown(folder);
    let unknown = |why: &str| Leakage::unknown(name.as_str(), "this text", Basis::Tokens, why);
    let fitted = if known { FittedOn::read(folder)? } else { None };
    let Some(fitted) = fitted else {
        let file = if known { same_file(folder, manifest) } else { None };
        return Ok(Leakage { file, ..unknown("its folder has no record of the documents it was fitted on") });
    };
    if fitted.tokenizer() != manifest.tokenizer_sha256.as_deref() {
        return Ok(unknown("it was fitted on ids of another tokenizer"));
    }
    Ok(Leakage::found(name.as_str(), "this text", Basis::Tokens, fitted.overlap_of_windows(text, lead)))
}

/// A file of this run that an older lens was fitted on: it has no record of documents.
fn same_file(folder: &Path, manifest: &Manifest) -> Option<String> {
    let fit = Manifest::read(folder).ok().flatten()?; // lenses from elsewhere have none
    let seen = |sha256: &String| fit.data.iter().any(|file| file.sha256 == *sha256);
    manifest.data.iter().find(|file| seen(&file.sha256)).map(|file| file.path.clone())
}

/// The documents of both sides of a split: what is held out chooses among translators, and is fitted on as well.
pub(crate) fn fitted_on(text: &[Window], split: &Split, lead: &[u32], manifest: &Manifest) -> FittedOn {
    let mut places = [&split.train[..], &split.held_out].concat();
    places.sort_unstable();
    FittedOn::of_windows(places.iter().map(|i| &text[*i]), lead, manifest.tokenizer_sha256.clone())
}

impl LeakageArgs {
    /// Holds the held-out side of a split against the side that `fitted` is fitted on; silent where they share nothing.
    pub(crate) fn of_split(
        self,
        text: &[Window],
        split: &Split,
        (fitted, source): (&str, &Source),
        manifest: &mut Manifest,
        output: Output,
    ) -> Result<(), Failure> {
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        let found = across(text, &split.train, &split.held_out, (&lead, (fitted, "its held-out text")));
        let shares = found.overlap.is_some_and(|overlap| overlap.seen_rows > 0);
        let found = if shares { vec![found] } else { Vec::new() };
        self.judge(found, manifest, output)
    }
}
