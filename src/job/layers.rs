//! Which layers.

use std::{fmt, str::FromStr};

/// Layers such as `0,4,8-12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(pub Vec<usize>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut layers = Vec::new();
        for part in text.split(',') {
            let number =
                |t: &str| t.trim().parse::<usize>().map_err(|_| format!("`{t}` is not a layer number"));
            match part.split_once('-') {
                None => layers.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last || last > 100_000 {
                        return Err(format!("`{part}` is not an ascending range of layers"));
                    }
                    layers.extend(first..=last);
                }
            }
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(Self(layers))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

crate::by_text::serde_by_text!(Layers);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_lists_and_ranges() {
        assert_eq!("8-10,0,4,4".parse(), Ok(Layers(vec![0, 4, 8, 9, 10])));
        for (bad, says) in [("", "``"), ("a", "`a`"), ("-1", "``"), ("1,,2", "``")] {
            assert_eq!(bad.parse::<Layers>(), Err(format!("{says} is not a layer number")), "{bad}");
        }
        assert_eq!("3-1".parse::<Layers>(), Err("`3-1` is not an ascending range of layers".to_owned()));
    }
}
