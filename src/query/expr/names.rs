//! A name that no field has: what to say about it, and which names are near it.

use super::tree::Name;
use crate::query::names::similar;

/// So few names are listed when none is near.
const LISTED: usize = 12;

/// The sentence for `name`, which is not among `known`.
pub(super) fn unknown(name: &Name, known: &[String]) -> String {
    let mut sentence = format!("there is no field {}", name.name);
    if let Some(same) = known.iter().find(|k| k.to_lowercase() == name.name.to_lowercase()) {
        sentence += &format!("; names are case-sensitive, there is {same}");
    } else {
        let near = similar(&name.name, known);
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
