//! The grid of a future-prompt lens: what every state goes on to say.

use std::collections::BTreeMap;

use anyhow::anyhow;
use layerscope::{
    artifact::{LensFolder, LensKind, check, check_shape, unembed_sha256},
    future::{GridCell, Prompt, fits, grid},
    text::Tokenizer,
};
use serde_json::{Value, json};

use super::{
    super::{exit::Failure, output::Output, session::Session},
    ColorDepth, View, table,
};

/// Letters of a cell.
const CELL: usize = 22;

impl View {
    /// The folder of learned prompts among `--lens`, which is shown by itself.
    pub(super) fn learned(&self) -> Result<Option<LensFolder>, Failure> {
        for name in &self.lens {
            let dir = std::path::Path::new(name);
            if !dir.is_dir() {
                continue;
            }
            let folder = LensFolder::read(dir).map_err(Failure::usage)?;
            if folder.config.kind != LensKind::FuturePrompt {
                continue;
            }
            if self.lens.len() > 1 || self.writes_files() {
                return Err(Failure::usage(anyhow!(
                    "--lens {name}: a future-prompt lens is shown by itself, in the terminal or with --json"
                )));
            }
            return Ok(Some(folder));
        }
        Ok(None)
    }

    /// Layers down, tokens across, each cell what that state goes on to say.
    pub(super) fn grid(&self, folder: &LensFolder) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let session = Session::open(&self.model, output)?;
        let spec = &session.spec;
        check_shape(&folder.config, spec.d_model, spec.n_layers).map_err(Failure::check)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let mut asked = session.layers(self.layers.as_ref())?;
        asked.retain(|layer| folder.config.layers.contains(layer));
        if asked.is_empty() {
            return Err(Failure::usage(anyhow!(
                "--layers: the lens has prompts for {:?}",
                folder.config.layers
            )));
        }
        let prompts = leaders(folder, &asked)?;
        let longest = prompts.values().map(Prompt::tokens).max().unwrap_or(0);
        fits(longest as usize, self.ahead.get(), spec.n_ctx).map_err(Failure::usage)?;
        let texts = self.prompts(&session, &tokenizer)?;
        session.announce(output);
        let model = session.load(output)?;
        match check(&folder.config, &unembed_sha256(model.unembed())?, spec.d_model, spec.n_layers) {
            Ok(_) => {}
            Err(e) if self.other_unembedding => output.warn(e.to_string()),
            Err(e) => return Err(Failure::check(e)),
        }
        let vocab = (tokenizer.max_id() as usize + 1).min(spec.vocab);
        let mut results = Vec::new();
        for text in &texts {
            let tokens = session.batch_tokens(None);
            let rows = grid(&model, vocab, &text.ids, &prompts, self.ahead.get(), tokens)?;
            output.print(&self.draw_grid(&tokenizer, text, &rows))?;
            results.push(object(&tokenizer, text, &rows));
        }
        output.result(if results.len() > 1 { json!({ "prompts": results }) } else { results.remove(0) })?;
        Ok(())
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
            "future lens: the next {} tokens by each state alone; colour or number: their mean probability\n",
            self.ahead
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

/// One prompt per layer: trained for horizon 2 (the paper's N = 1) where there is one, else for the nearest.
fn leaders(folder: &LensFolder, layers: &[usize]) -> Result<BTreeMap<usize, Prompt>, Failure> {
    let mut all = folder.prompts()?;
    let horizons = &folder.config.horizons;
    let horizon = if horizons.contains(&2) { 2 } else { horizons[0] };
    Ok(layers.iter().filter_map(|l| Some((*l, Prompt::Soft(all.remove(&(*l, horizon))?)))).collect())
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
