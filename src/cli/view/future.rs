//! The grid of a future-prompt lens: what every state goes on to say.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::anyhow;
use layerscope::{
    intervene::future::{GridCell, Prompt, fits, grid},
    lens::artifact::{LensFolder, LensKind, check, check_shape, unembed_sha256},
    model::Model,
    results::words::counted,
    sources::text::Tokenizer,
};
use serde_json::{Value, json};

use super::{
    super::{
        exit::Failure,
        output::{Output, shown},
        session::Session,
    },
    ColorDepth, View, table,
};

/// Letters of a cell.
const CELL: usize = 22;

/// A folder of learned prompts.
pub(super) struct Learned {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) folder: LensFolder,
}

impl View {
    /// The folders of learned prompts among `--lens`, and the other lenses.
    pub(super) fn learned(&self) -> Result<(Vec<Learned>, Vec<PathBuf>), Failure> {
        let (mut learned, mut others) = (Vec::new(), Vec::new());
        for (place, name) in self.lens.iter().enumerate() {
            let folder = name.is_dir().then(|| LensFolder::read(name)).transpose().map_err(Failure::usage)?;
            match folder.filter(|folder| folder.config.kind == LensKind::FuturePrompt) {
                Some(folder) => {
                    let label = |name: &PathBuf| name.file_name().map(|n| n.to_string_lossy().into_owned());
                    let same = self.lens[..place].iter().filter(|other| label(other) == label(name)).count();
                    let label = label(name).unwrap_or_else(|| shown(name));
                    let label = if same > 0 { format!("{label}-{}", same + 1) } else { label };
                    learned.push(Learned { name: label, dir: name.clone(), folder });
                }
                None => others.push(name.clone()),
            }
        }
        match learned.first() {
            Some(one) if self.lens.len() > 1 && !self.writes_files() => Err(Failure::usage(anyhow!(
                "--lens {}: in the terminal a future-prompt lens is shown by itself; --html and --out take several",
                one.dir.display()
            ))),
            Some(one) if self.logitlenskit.is_some() => Err(Failure::usage(anyhow!(
                "--logitlenskit shows the next token, --lens {} later ones",
                one.dir.display()
            ))),
            _ => Ok((learned, others)),
        }
    }

    /// Layers down, tokens across, each cell what that state goes on to say.
    pub(super) fn grid(&self, folder: &LensFolder) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let session = Session::open(&self.model, output)?;
        let spec = &session.spec;
        let tokenizer = session.tokenizer(&self.model)?;
        let prompts = self.leaders(folder, &session)?;
        let texts = self.prompts(&session, &tokenizer)?;
        session.announce(output);
        let model = session.load(output)?;
        self.check_unembedding(folder, &model, output)?;
        let vocab = (tokenizer.max_id() as usize + 1).min(spec.vocab);
        let mut results = Vec::new();
        for text in &texts {
            let tokens = session.batch_tokens(None);
            let rows = grid(&model, vocab, &text.ids, &prompts, self.ahead.get(), tokens);
            let rows = rows.map_err(|error| self.of(text, error))?;
            output.print(&self.draw_grid(&tokenizer, text, &rows))?;
            results.push(object(&tokenizer, text, &rows));
        }
        output.result(super::json::whole(results))?;
        Ok(())
    }

    /// One prompt per layer asked for: trained for horizon 2 (the paper's N = 1) where there is one, else for the nearest.
    pub(super) fn leaders(
        &self,
        folder: &LensFolder,
        session: &Session,
    ) -> Result<BTreeMap<usize, Prompt>, Failure> {
        let (spec, config) = (&session.spec, &folder.config);
        check_shape(config, spec.d_model, spec.n_layers).map_err(Failure::check)?;
        let mut all = folder.prompts()?;
        let horizon = if config.horizons.contains(&2) { 2 } else { config.horizons[0] };
        let asked = session.layers(self.layers.as_ref())?;
        let of = |layer: &usize| Some((*layer, Prompt::Soft(all.remove(&(*layer, horizon))?)));
        let prompts: BTreeMap<usize, Prompt> = asked.iter().filter_map(of).collect();
        if prompts.is_empty() {
            return Err(Failure::usage(anyhow!("--layers: the lens has prompts for {:?}", config.layers)));
        }
        let longest = prompts.values().map(Prompt::tokens).max().unwrap_or(0);
        fits(longest as usize, self.ahead.get(), spec.n_ctx).map_err(Failure::usage)?;
        Ok(prompts)
    }

    /// Refuses prompts that were learned through another head.
    pub(super) fn check_unembedding(
        &self,
        folder: &LensFolder,
        model: &Model,
        output: Output,
    ) -> Result<(), Failure> {
        let spec = model.spec();
        match check(&folder.config, &unembed_sha256(model.unembed())?, spec.d_model, spec.n_layers) {
            Ok(_) => Ok(()),
            Err(e) if self.other_unembedding => {
                output.warn(e.to_string());
                Ok(())
            }
            Err(e) => Err(Failure::check(e)),
        }
    }

    fn draw_grid(
        &self,
        tokenizer: &Tokenizer,
        prompt: &super::Prompt,
        rows: &[(usize, Vec<GridCell>)],
    ) -> String {
        let depth = ColorDepth::detect(self.color);
        let width = console::Term::stdout().size_checked().map_or(120, |(_, columns)| usize::from(columns));
        let per_panel = (width.saturating_sub(table::GUTTER) / (CELL + 1)).max(1);
        let cell = |cell: &GridCell| {
            let text: String = cell.tokens.iter().map(|id| tokenizer.piece(*id as u32).shown).collect();
            match depth {
                ColorDepth::None => {
                    format!("{} {:>3.0}%", table::pad(&text, CELL - 5), 100.0 * cell.mean())
                }
                depth => depth.paint(&table::pad(&text, CELL), cell.mean()),
            }
        };
        let mut text = format!(
            "future lens: the next {} by each state alone; colour or number: the mean probability\n",
            counted(self.ahead.get(), "token")
        );
        for start in (0..prompt.ids.len()).step_by(per_panel) {
            let range = start..prompt.ids.len().min(start + per_panel);
            for (layer, row) in rows.iter().rev() {
                text.push_str(&table::line(&layer.to_string(), row[range.clone()].iter().map(cell)));
            }
            text.push_str(&table::line("", range.clone().map(|_| "─".repeat(CELL))));
            text.push_str(&table::line(
                "token",
                range.clone().map(|i| table::pad(&prompt.tokens[i].shown, CELL)),
            ));
            text.push_str(&table::line("pos", range.map(|i| table::pad(&i.to_string(), CELL))));
            text.push('\n');
        }
        text.trim_end().to_owned()
    }
}

fn object(tokenizer: &Tokenizer, prompt: &super::Prompt, rows: &[(usize, Vec<GridCell>)]) -> Value {
    let piece = |id: &i64| tokenizer.piece(*id as u32).shown;
    let cell = |cell: &GridCell| {
        json!({ "token_ids": cell.tokens, "tokens": cell.tokens.iter().map(piece).collect::<Vec<_>>(),
                "probabilities": cell.probabilities })
    };
    let row = |(layer, cells): &(usize, Vec<GridCell>)| json!({ "layer": layer, "cells": cells.iter().map(cell).collect::<Vec<_>>() });
    json!({
        "text": prompt.text,
        "token_ids": prompt.ids,
        "tokens": prompt.tokens.iter().map(|t| t.shown.clone()).collect::<Vec<_>>(),
        "grid": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
