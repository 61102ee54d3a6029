//! The functions of the shared cases: `x -> [x, 2x]`, `x % 2 == 0`, `a+b`, `(x,1)`, over JSON values.
//!
//! Numbers are integers, `+` also joins texts, a pair is `(a, b)` or `[a, b]`. Parameters are named before the arrow or,
//! without one, are the letters that occur, in order.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A function of values.
#[derive(Clone, Debug)]
pub struct Lambda {
    parameters: Vec<String>,
    body: Expr,
}

#[derive(Clone, Debug)]
enum Expr {
    Literal(Value),
    Variable(String),
    List(Vec<Expr>),
    Binary(char, Box<Expr>, Box<Expr>),
}

struct Parser<'a> {
    rest: &'a str,
}

impl Lambda {
    /// `None` if that is no function of this kind.
    pub fn parse(text: &str) -> Option<Lambda> {
        let text = text.replace(' ', "");
        if matches!(text.as_str(), "+" | "-") {
            return Lambda::parse(&format!("a{text}b"));
        }
        let (head, body) = match text.split_once("->") {
            Some((head, body)) => (Some(head), body),
            None => (None, text.as_str()),
        };
        let mut parser = Parser { rest: body };
        let body = parser.comparison()?;
        // A word alone is prose.
        if !parser.rest.is_empty() || head.is_none() && matches!(body, Expr::Variable(_)) {
            return None;
        }
        let parameters = match head {
            Some(head) => head.trim_matches(['(', ')']).split(',').map(str::to_owned).collect(),
            None => {
                let mut found = Vec::new();
                body.variables(&mut found);
                found.sort();
                found.dedup();
                found
            }
        };
        Some(Lambda { parameters, body })
    }

    /// Its value for these arguments.
    pub fn call(&self, arguments: &[Value]) -> Value {
        let bound = self.parameters.iter().map(String::as_str).zip(arguments).collect();
        self.body.value(&bound)
    }
}

impl Expr {
    fn variables(&self, out: &mut Vec<String>) {
        match self {
            Expr::Literal(_) => {}
            Expr::Variable(name) => out.push(name.clone()),
            Expr::List(items) => items.iter().for_each(|item| item.variables(out)),
            Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|side| side.variables(out)),
        }
    }

    fn value(&self, bound: &BTreeMap<&str, &Value>) -> Value {
        match self {
            Expr::Literal(value) => value.clone(),
            Expr::Variable(name) => (*bound[name.as_str()]).clone(),
            Expr::List(items) => items.iter().map(|item| item.value(bound)).collect(),
            Expr::Binary(operator, a, b) => {
                let (a, b) = (a.value(bound), b.value(bound));
                if let (Value::String(a), Value::String(b), '+') = (&a, &b, operator) {
                    return json!(format!("{a}{b}"));
                }
                let numbers = a.as_i64().zip(b.as_i64());
                match (operator, numbers) {
                    ('+', Some((a, b))) => json!(a + b),
                    ('-', Some((a, b))) => json!(a - b),
                    ('*', Some((a, b))) => json!(a * b),
                    ('%', Some((a, b))) => json!(a.rem_euclid(b)),
                    ('>', Some((a, b))) => json!(a > b),
                    ('<', Some((a, b))) => json!(a < b),
                    ('=', _) => json!(a == b),
                    ('!', _) => json!(a != b),
                    _ => panic!("{a} {operator} {b} has no value"),
                }
            }
        }
    }
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn binary(operator: char, a: Expr, b: Expr) -> Expr {
        Expr::Binary(operator, Box::new(a), Box::new(b))
    }

    fn comparison(&mut self) -> Option<Expr> {
        let left = self.sum()?;
        for (token, operator) in [("==", '='), ("!=", '!'), (">", '>'), ("<", '<')] {
            if self.eat(token) {
                return Some(Self::binary(operator, left, self.sum()?));
            }
        }
        Some(left)
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut left = self.product()?;
        loop {
            let operator = ['+', '-'].into_iter().find(|o| self.eat(&o.to_string()));
            let Some(operator) = operator else { return Some(left) };
            left = Self::binary(operator, left, self.product()?);
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut left = self.atom()?;
        loop {
            let operator = ['*', '%'].into_iter().find(|o| self.eat(&o.to_string()));
            // `2x` is a product, too.
            let implied =
                matches!(left, Expr::Literal(Value::Number(_))) && self.rest.starts_with(|c: char| c.is_alphabetic());
            left = match operator {
                Some(operator) => Self::binary(operator, left, self.atom()?),
                None if implied => Self::binary('*', left, self.atom()?),
                None => return Some(left),
            };
        }
    }

    fn atom(&mut self) -> Option<Expr> {
        for (open, close) in [("(", ")"), ("[", "]")] {
            if self.eat(open) {
                let mut items = vec![self.comparison()?];
                while self.eat(",") {
                    items.push(self.comparison()?);
                }
                let single = items.len() == 1 && open == "(";
                return self.eat(close).then(|| if single { items.remove(0) } else { Expr::List(items) });
            }
        }
        for quote in ['\'', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let (text, rest) = rest.split_once(quote)?;
                self.rest = rest;
                return Some(Expr::Literal(json!(text)));
            }
        }
        let length = self.rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(if digits > 0 { digits } else { length });
        if word.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(match word.parse::<i64>() {
            Ok(number) => Expr::Literal(json!(number)),
            Err(_) => Expr::Variable(word.to_owned()),
        })
    }
}

#[test]
fn functions_mean_what_they_say() {
    let call = |text: &str, arguments: &[Value]| Lambda::parse(text).unwrap().call(arguments);
    assert_eq!(call("x -> [x, 2x]", &[json!(3)]), json!([3, 6]));
    assert_eq!(call("x % 2 == 0", &[json!(4)]), json!(true));
    assert_eq!(call("a+b", &[json!("x"), json!("y")]), json!("xy"));
    assert_eq!(call("-", &[json!(3), json!(5)]), json!(-2));
    assert_eq!(call("x->(x,'x')", &[json!("a")]), json!(["a", "x"]));
    assert_eq!(call("v->[v,v+10]", &[json!(1)]), json!([1, 11]));
    assert!(Lambda::parse("sum of partition").is_none());
}
