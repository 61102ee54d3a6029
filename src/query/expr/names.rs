//! A name that no field has: what to say about it, and which names are near it.

use super::tree::Name;

/// At most so many names are suggested.
const SUGGESTED: usize = 3;
/// So few names are listed when none is near.
const LISTED: usize = 12;

/// The sentence for `name`, which is not among `known`.
pub(super) fn unknown(name: &Name, known: &[String]) -> String {
    let mut sentence = format!("there is no field {}", name.name);
    if let Some(same) = known.iter().find(|k| k.to_lowercase() == name.name.to_lowercase()) {
        sentence += &format!("; names are case-sensitive, there is {same}");
    } else {
        let near = near(&name.name, known);
        if !near.is_empty() {
            sentence += &format!("; near it are {}", near.join(", "));
        } else if !known.is_empty() && known.len() <= LISTED {
            sentence += &format!("; there are {}", known.join(", "));
        }
    }
    if name.quoted {
        sentence += "; text stands in single quotes";
    }
    sentence
}

fn near<'a>(name: &str, known: &'a [String]) -> Vec<&'a str> {
    // A third of its letters: of one or two, everything would be near.
    let most = name.chars().count() / 3;
    let mut near: Vec<(usize, &str)> =
        known.iter().map(|k| (distance(name, k, most), k.as_str())).filter(|(d, _)| *d <= most).collect();
    near.sort();
    near.into_iter().take(SUGGESTED).map(|(_, k)| k).collect()
}

/// Letters to insert, delete or replace between two names, case aside; more than `most` is `most + 1`.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
