//! Groups that hold an equal text are one: a split must not have it on both sides.

use std::collections::HashMap;
use std::hash::Hash;

use super::fold::fold;
use super::set::{LabelledText, Unit};

/// Joins groups of `texts` that share a text (of words: whole documents that are equal, since a sentence such as "Yes."
/// is in many). Groups keep their order and the name of the first; says how many were joined to another.
pub(super) fn join(texts: &mut [LabelledText], names: &mut Vec<String>, unit: Unit) -> usize {
    let mut leads = Leads((0..names.len() as u32).collect());
    if unit == Unit::Word {
        let mut documents = vec![Vec::new(); names.len()];
        for text in texts.iter() {
            documents[text.group as usize].push(fold(&text.text));
        }
        leads.join_equal(documents.into_iter().zip(0..));
    } else {
        leads.join_equal(texts.iter().map(|text| (fold(&text.text), text.group)));
    }
    let (before, mut new) = (names.len(), vec![None; names.len()]);
    let mut kept = Vec::new();
    for group in 0..before as u32 {
        if leads.of(group) == group {
            new[group as usize] = Some(kept.len() as u32);
            kept.push(std::mem::take(&mut names[group as usize]));
        }
    }
    for text in texts {
        text.group = new[leads.of(text.group) as usize].unwrap_or(text.group);
    }
    *names = kept;
    before - names.len()
}

/// The least group that each is joined to, over steps.
struct Leads(Vec<u32>);

impl Leads {
    fn of(&self, mut group: u32) -> u32 {
        while self.0[group as usize] != group {
            group = self.0[group as usize];
        }
        group
    }

    fn join_equal<K: Eq + Hash>(&mut self, all: impl IntoIterator<Item = (K, u32)>) {
        let mut first = HashMap::new();
        for (key, group) in all {
            let (a, b) = (self.of(*first.entry(key).or_insert(group)), self.of(group));
            self.0[a.max(b) as usize] = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sources::labelled::LabelledOptions;
    use crate::sources::labelled::set::tests::open;

    #[test]
    fn groups_that_share_a_text_are_one() {
        let csv = "text,label,g\na,0,x\nb,1,y\nc,0,z\nB ,1,z\nA,1,w\nd,0,v\n";
        let options = LabelledOptions { group_column: Some("g".into()), ..Default::default() };
        let set = open("a.csv", csv, &options).unwrap();
        assert_eq!(set.texts.iter().map(|text| text.group).collect::<Vec<_>>(), [0, 1, 1, 1, 0, 2]);
        assert_eq!(set.groups, ["x", "y", "v"]);
        assert_eq!(set.grouping, "groups of equal \"g\", 2 of them joined to others that share a text");
    }

    #[test]
    fn documents_of_words_are_joined_as_a_whole() {
        let sentence = |text: &str| format!("# text = {text}\n1\t{text}\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n");
        let document = |name: &str, texts: &[&str]| {
            format!("# newdoc id = {name}\n{}", texts.iter().map(|text| sentence(text)).collect::<String>())
        };
        let conllu = document("a", &["Yes", "Cats"])
            + &document("b", &["Yes", "Dogs"])
            + &document("c", &["yes", "cats"]);
        let set =
            open("a.conllu", &conllu.replace("Dogs\t_\tNOUN", "Dogs\t_\tVERB"), &LabelledOptions::default());
        let groups: Vec<u32> = set.unwrap().texts.iter().map(|text| text.group).collect();
        assert_eq!(groups, [0, 0, 1, 1, 0, 0]);
    }
}
