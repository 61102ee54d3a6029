//! Which of the known names someone may have meant by one that is not known. Cost: that of comparing it with each.

/// The names that differ from `name` by case or by at most a third of its letters, closest first.
pub(crate) fn similar(name: &str, names: &[String]) -> Vec<String> {
    let wanted = name.to_lowercase();
    let mut close: Vec<(usize, &String)> = names
        .iter()
        .map(|n| (distance(&wanted, &n.to_lowercase()), n))
        .filter(|(d, _)| *d <= wanted.chars().count() / 3)
        .collect();
    close.sort();
    close.into_iter().take(3).map(|(_, n)| n.clone()).collect()
}

/// Levenshtein's distance, two neighbours that changed places counting once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = rows[i][j] + usize::from(a[i] != b[j]);
            let mut least = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
