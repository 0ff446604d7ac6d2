//! Subjects of files from before their parts had columns: the one place where a subject's text is taken apart.

use super::{
    RowKind,
    subject::{Direction, Parts, Subject, TOGETHER},
};

/// The subjects of a file's rows, from texts and kinds. What cannot be told apart stays a name.
pub(super) fn subjects(rows: &[(String, RowKind)]) -> Vec<Subject> {
    let sets = sets(rows);
    let subject = |(text, kind): &(String, RowKind)| match parts(text, *kind, &sets) {
        // Only what reads as it did.
        Some(parts) if parts.to_string() == *text => parts.into(),
        _ => text.clone().into(),
    };
    rows.iter().map(subject).collect()
}

fn parts(text: &str, kind: RowKind, sets: &[String]) -> Option<Parts> {
    let after = |mark: char| text.rsplit_once(mark).map(|(of, rest)| (of.to_owned(), rest));
    match kind {
        RowKind::Difference => {
            let (of, less) = text.split_once(" less ")?;
            Some(Parts::Less { of: of.into(), less: less.into() })
        }
        RowKind::TransferCorrected => {
            after('+').map(|(of, name)| Parts::Corrected { of, correction: name.into() })
        }
        RowKind::Reader | RowKind::Sharing => {
            after(':').map(|(of, rung)| Parts::Rung { of, rung: rung.into() })
        }
        RowKind::Steer | RowKind::SteerRandom => pushed(text),
        RowKind::Thought | RowKind::Lens | RowKind::Replacement => {
            let (of, step) = after('@')?;
            let (step, anew) = (step.trim_end_matches('+'), step.ends_with('+'));
            Some(Parts::Step { of, step: step.parse().ok()?, anew })
        }
        RowKind::Patch | RowKind::Trace => {
            let (position, token) = text.split_once(':')?;
            Some(Parts::Token { position: position.parse().ok()?, token: token.into() })
        }
        RowKind::Generalisation => {
            let (of, pair) = text.split_once(':')?;
            let known = |name: &str| sets.iter().any(|set| set == name);
            let (on, to) = arrows(pair).find(|(on, to)| known(on) && known(to))?;
            Some(Parts::Set { of: of.into(), trained_on: on.into(), tested_on: Some(to.into()) })
        }
        RowKind::ProbeTransfer => {
            let (of, set) = text.split_once(':')?;
            Some(Parts::Set { of: of.into(), trained_on: set.into(), tested_on: None })
        }
        RowKind::Law | RowKind::FuturePrompt | RowKind::FutureFixed => {
            let (of, rest) = text.split_once(':')?;
            let (first, second) = rest.split_once(':').map_or((rest, None), |(a, b)| (a, Some(b)));
            let prompt = first.parse().ok();
            let variant = if prompt.is_some() { second } else { Some(rest) };
            Some(Parts::Variant { of: of.into(), prompt, variant: variant.map(str::to_owned) })
        }
        RowKind::Space | RowKind::SpaceRandom => {
            let (of, percent) = after('-')?;
            Some(Parts::Share { of, share: percent.parse::<f64>().ok()? / 100.0 })
        }
        RowKind::Schedule => Some(scheduled(None, text)),
        _ => lens(text, kind),
    }
}

/// A lens, as it is, without a direction, or under a schedule.
fn lens(text: &str, kind: RowKind) -> Option<Parts> {
    if let Some((schedule, lens)) = text.split_once('|') {
        return Some(scheduled(Some(lens.to_owned()), schedule));
    }
    if let Some((of, direction)) = text.rsplit_once('@') {
        let one = direction.rsplit_once('-').and_then(|(set, n)| Some((set, n.parse().ok()?)));
        let direction = match one {
            Some((set, number)) => Direction { set: set.into(), number: Some(number) },
            None => Direction { set: direction.into(), number: None },
        };
        return Some(Parts::Without { of: of.into(), direction });
    }
    match kind {
        // The logit lens has no other name: these are of schedules.
        RowKind::Logit if text != "logit" => Some(scheduled(None, text)),
        RowKind::Shared => {
            let (of, rung) = text.rsplit_once(':')?;
            Some(Parts::Rung { of: of.into(), rung: rung.into() })
        }
        _ => None,
    }
}

fn scheduled(of: Option<String>, schedule: &str) -> Parts {
    let skipped = schedule.strip_prefix("skip:").and_then(|block| block.parse().ok());
    Parts::Scheduled { of, schedule: schedule.into(), skipped }
}

fn pushed(text: &str) -> Option<Parts> {
    let Some((of, strength)) = text.rsplit_once('@') else {
        return text.strip_suffix("-random").map(|of| Parts::RandomTwin { of: of.into() });
    };
    let strength = strength.parse().ok()?;
    Some(if of == TOGETHER {
        Parts::RandomMean { strength }
    } else {
        Parts::Pushed { of: of.into(), strength }
    })
}

/// Every way to take `A>B` apart; a name may have an arrow of its own.
fn arrows(pair: &str) -> impl Iterator<Item = (&str, &str)> {
    pair.match_indices('>').map(|(i, _)| (&pair[..i], &pair[i + 1..]))
}

/// The names of sets: those of which `A>A` is a subject.
fn sets(rows: &[(String, RowKind)]) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    for (text, _) in rows.iter().filter(|(_, kind)| *kind == RowKind::Generalisation) {
        let pair = text.split_once(':').map_or("", |(_, pair)| pair);
        let same = arrows(pair).find(|(from, to)| from == to).map(|(name, _)| name);
        sets.extend(same.filter(|name| !sets.iter().any(|set| set == name)).map(str::to_owned));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, kind: RowKind) -> Parts {
        subjects(&[(text.into(), kind)])[0].parts().clone()
    }

    #[test]
    fn sets_are_found_even_with_arrows_in_their_names() {
        let rows = ["lda:a>b>a>b", "lda:c>a>b", "lda:a>b>c", "lda:c>c", "lda:x>c"]
            .map(|text| (text.to_owned(), RowKind::Generalisation));
        assert_eq!(sets(&rows), ["a>b", "c"]);
        let found = subjects(&rows);
        let set = |on: &str, to: &str| Parts::Set {
            of: "lda".into(),
            trained_on: on.into(),
            tested_on: Some(to.into()),
        };
        assert_eq!(*found[1].parts(), set("c", "a>b"));
        assert_eq!(*found[2].parts(), set("a>b", "c"));
        assert_eq!(*found[4].parts(), Parts::Name);
        assert_eq!(found[4], "lda:x>c");
    }

    #[test]
    fn texts_are_read_by_their_kind() {
        let text = |text: &str| text.to_owned();
        let direction = Direction { set: "tuned.cbe".into(), number: Some(12) };
        let pairs = [
            ("tuned less logit", RowKind::Difference, Parts::Less { of: text("tuned"), less: text("logit") }),
            ("tuned@tuned.cbe-12", RowKind::Tuned, Parts::Without { of: text("tuned"), direction }),
            ("v@-0.5", RowKind::Steer, Parts::Pushed { of: text("v"), strength: -0.5 }),
            ("random-mean@+1", RowKind::SteerRandom, Parts::RandomMean { strength: 1.0 }),
            ("thanks-random", RowKind::SteerRandom, Parts::RandomTwin { of: text("thanks") }),
            (
                "a+b+shift",
                RowKind::TransferCorrected,
                Parts::Corrected { of: text("a+b"), correction: text("shift") },
            ),
            (
                "skip:2",
                RowKind::Logit,
                Parts::Scheduled { of: None, schedule: text("skip:2"), skipped: Some(2) },
            ),
            ("zero@2+", RowKind::Replacement, Parts::Step { of: text("zero"), step: 2, anew: true }),
            ("4:a:b", RowKind::Patch, Parts::Token { position: 4, token: text("a:b") }),
            (
                "fixed:2:mean",
                RowKind::FutureFixed,
                Parts::Variant { of: text("fixed"), prompt: Some(2), variant: Some(text("mean")) },
            ),
            ("components-90", RowKind::Space, Parts::Share { of: text("components"), share: 0.9 }),
            ("s:affine", RowKind::Shared, Parts::Rung { of: text("s"), rung: text("affine") }),
            ("logit", RowKind::Logit, Parts::Name),
            ("last", RowKind::Trace, Parts::Name),
            ("zero", RowKind::Replacement, Parts::Name),
            ("embedding", RowKind::Space, Parts::Name),
        ];
        for (text, kind, parts) in pairs {
            assert_eq!(one(text, kind), parts, "{text}");
        }
    }
}
