//! Text to tree: sqlparser's tokenizer and parser walk the text, and this says by precedence climbing what it means.
//!
//! Quoting, numbers, comments, keywords and the line and column of each are sqlparser's. Its own tree of expressions
//! (0.63) is not asked for: `user` and `interval`, which are fields of logs, are a function and a syntax error in it;
//! that of a chain is as deep as the chain is long, and dropping it (200,000 terms on a stack of 2 MiB, also when it is
//! dropped inside the parser after an error) ends the process; and most of its nodes say nothing of where they stand.
//!
//! Precedence, loosest first: `or`, `and`, `not`, `is`, comparisons with `in`, `between`, `like`, `+ -`, `* / %`, sign.
//! Invariant: neither this parser nor a tree it returns is deeper than [`MAX_DEPTH`]. Cost: linear in the text.

use super::tree::{Arith, Name, Node, Op};
use crate::{Error, Result};
use regex::bytes::Regex;
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, Tokenizer};
use std::collections::HashMap;

/// Parentheses and operators inside each other, at most. 2 MiB, the stack of a thread, holds several times as many.
pub(super) const MAX_DEPTH: usize = 128;

/// What an expression may be made of, for messages.
const SUPPORTED: &str = "an expression is made of = <> < <= > >=, and, or, not, in, between, like, is null, is true, \
    regexp_like(field, 'pattern'), + - * / %, parentheses, fields, numbers, 'text', true, false and null";

const RESERVED: [&str; 10] = ["and", "or", "not", "is", "null", "true", "false", "in", "between", "like"];

/// The reserved words that may follow a value.
const OPERATORS: [Keyword; 7] =
    [Keyword::AND, Keyword::OR, Keyword::NOT, Keyword::IS, Keyword::IN, Keyword::BETWEEN, Keyword::LIKE];

/// Whether `word` can be a field only in double quotes.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|r| r.eq_ignore_ascii_case(word))
}

const REGEXP_LIKE: &str = "regexp_like";

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARE: u8 = 5;
const SUM: u8 = 6;
const PRODUCT: u8 = 7;
const SIGN: u8 = 8;

/// What a text says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// The fields it names, each once, in the order of their first mention.
    pub(super) names: Vec<Name>,
    /// Where each leaf of the tree stands, in the order in which they are written.
    pub(super) places: Vec<Location>,
}

/// The tree of `text`.
pub(super) fn parse(text: &str) -> Result<Parsed> {
    let mut tokens = match Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(e) => return Err(fail(text, e.location, &lowercase_first(&e.message))),
    };
    let end = tokens.last().map_or(Location::new(1, 1), |t| t.span.end);
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_)));
    if tokens.is_empty() {
        return Err(Error::usage(format!("an expression is empty; {SUPPORTED}")));
    }
    let sql = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
    let mut parser = Climber { text, sql, end, depth: 0, names: Vec::new(), index: HashMap::new(), places: Vec::new() };
    let root = parser.expression(OR)?;
    match parser.peek() {
        Token::EOF => Ok(Parsed { root: root.node, names: parser.names, places: parser.places }),
        Token::RParen => Err(parser.fail_here("this parenthesis closes nothing")),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

/// `text` in double quotes, on one line, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 100;
    let line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "..." } else { "" };
    format!("\"{line}{more}\"")
}

fn lowercase_first(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// The error that `what` is wrong with `text` at a place.
pub(super) fn fail(text: &str, at: Location, what: &str) -> Error {
    Error::usage(format!("in the expression {}, line {}, column {}: {what}", quoted(text), at.line, at.column))
}

/// A node and the length of its longest path.
struct Part {
    node: Node,
    depth: usize,
}

impl Part {
    fn leaf(node: Node) -> Part {
        Part { node, depth: 1 }
    }
}

struct Climber<'a> {
    text: &'a str,
    /// Without white space and comments.
    sql: Parser<'a>,
    end: Location,
    /// Calls of [`Climber::expression`] that have not returned.
    depth: usize,
    names: Vec<Name>,
    index: HashMap<String, usize>,
    places: Vec<Location>,
}

impl Climber<'_> {
    fn peek(&self) -> &Token {
        &self.sql.peek_token_ref().token
    }

    fn here(&self) -> Location {
        let next = self.sql.peek_token_ref();
        if next.token == Token::EOF { self.end } else { next.span.start }
    }

    /// Whether the token `ahead` is one of `words`, not quoted.
    fn is_one_of(&self, ahead: usize, words: &[Keyword]) -> bool {
        matches!(&self.sql.peek_nth_token_ref(ahead).token, Token::Word(word) if words.contains(&word.keyword))
    }

    fn fail_here(&self, what: &str) -> Error {
        fail(self.text, self.here(), what)
    }

    /// What stands here is not `wanted`: says so, and what to write instead where that is known.
    fn unexpected(&self, wanted: &str) -> Error {
        let instead = match self.peek() {
            Token::EOF => {
                return self.fail_here(&format!("the expression ends where {wanted} should stand"));
            }
            Token::Overlap => "&& is written and",
            Token::StringConcat => "|| is written or",
            Token::ExclamationMark | Token::DoubleExclamationMark => "! is written not",
            Token::SingleQuotedString(_) | Token::Number(..) => "",
            Token::Word(w) if w.quote_style.is_some() || is_reserved(&w.value) => "",
            _ => SUPPORTED,
        };
        let found = match self.peek() {
            Token::Word(w) if w.quote_style.is_none() => w.value.clone(),
            token => token.to_string(),
        };
        let instead = if instead.is_empty() { String::new() } else { format!("; {instead}") };
        self.fail_here(&format!("{found} stands where {wanted} should{instead}"))
    }

    /// `node` over parts of which the deepest has `depth`.
    fn over(&self, depth: usize, node: Node) -> Result<Part> {
        if depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        Ok(Part { node, depth: depth + 1 })
    }

    fn too_deep(&self) -> Error {
        self.fail_here(&format!(
            "it is nested more than {MAX_DEPTH} deep; chains of and, or and in (...) may be long, \
             parentheses and arithmetic inside each other may not"
        ))
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Part> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let mut left = self.prefix()?;
        // What `left` was built by: comparisons do not chain.
        let mut built = u8::MAX;
        while let Some(level) = self.infix_level() {
            if level < least {
                break;
            }
            if level == COMPARE && built == COMPARE {
                return Err(self.fail_here("comparisons do not chain; join two of them with and"));
            }
            left = self.infix(left, level)?;
            built = level;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Part> {
        if self.sql.parse_keyword(Keyword::NOT) {
            let inner = self.expression(NOT)?;
            return self.over(inner.depth, Node::Not(Box::new(inner.node)));
        }
        if self.sql.consume_token(&Token::Plus) {
            return self.expression(SIGN);
        }
        if self.sql.consume_token(&Token::Minus) {
            // A number takes the sign into itself: the smallest integer is one that has no positive twin.
            let inner = self.expression(SIGN)?;
            return match inner.node {
                Node::Int(i) => Ok(Part::leaf(Node::Int(-i))),
                Node::Float(x) => Ok(Part::leaf(Node::Float(-x))),
                node => self.over(inner.depth, Node::Negate(Box::new(node))),
            };
        }
        if self.sql.consume_token(&Token::LParen) {
            let inner = self.expression(OR)?;
            return if self.sql.consume_token(&Token::RParen) {
                Ok(inner)
            } else {
                Err(self.unexpected("an operator or a closing parenthesis"))
            };
        }
        if matches!(self.peek(), Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(REGEXP_LIKE))
            && self.sql.peek_nth_token_ref(1).token == Token::LParen
        {
            return self.regexp_like();
        }
        self.atom().map(Part::leaf)
    }

    /// `regexp_like(x, 'pattern')`.
    fn regexp_like(&mut self) -> Result<Part> {
        self.sql.advance_token();
        self.sql.advance_token();
        let text = self.expression(SUM)?;
        if !self.sql.consume_token(&Token::Comma) {
            return Err(self.unexpected("a comma and a pattern in quotes"));
        }
        let Token::SingleQuotedString(pattern) = self.peek() else {
            return Err(self.unexpected("a pattern in quotes"));
        };
        let pattern = Box::new(Node::Text(pattern.clone()));
        if let Node::Text(pattern) = &*pattern {
            regexp(pattern).map_err(|what| self.fail_here(&what))?;
        }
        self.places.push(self.here());
        self.sql.advance_token();
        if !self.sql.consume_token(&Token::RParen) {
            return Err(self.unexpected("a closing parenthesis"));
        }
        self.over(text.depth, Node::Regexp(Box::new(text.node), pattern))
    }

    /// A literal or a field.
    fn atom(&mut self) -> Result<Node> {
        let node = match self.peek() {
            Token::Number(digits, _) => match number(digits) {
                Some(node) => node,
                None => {
                    return Err(self.fail_here(&format!("{digits} is not a number that can be held")));
                }
            },
            Token::SingleQuotedString(text) => Node::Text(text.clone()),
            Token::Word(w) if w.quote_style.is_none() && is_reserved(&w.value) => {
                match w.value.to_ascii_lowercase().as_str() {
                    "true" => Node::Bool(true),
                    "false" => Node::Bool(false),
                    "null" => Node::Null,
                    _ => return Err(self.unexpected("a field or a value")),
                }
            }
            Token::Word(_) => return self.field(),
            _ => return Err(self.unexpected("a field or a value")),
        };
        self.places.push(self.here());
        self.sql.advance_token();
        Ok(node)
    }

    /// A name, of one part or of several joined by dots.
    fn field(&mut self) -> Result<Node> {
        let (at, mut name, mut quoted) = (self.here(), String::new(), false);
        loop {
            let Token::Word(word) = self.peek() else {
                return Err(self.unexpected("the rest of a field's name"));
            };
            name.push_str(&word.value);
            quoted |= word.quote_style.is_some();
            self.sql.advance_token();
            if !self.sql.consume_token(&Token::Period) {
                break;
            }
            name.push('.');
        }
        match self.peek() {
            Token::LParen => {
                let what = format!("{name}(...) is not a function of expressions; {SUPPORTED}");
                return Err(fail(self.text, at, &what));
            }
            // `a.5` and `case when`: two tokens where one name was meant, or SQL that is not in this language.
            Token::SingleQuotedString(_) | Token::Number(..) | Token::Word(_) if !self.is_one_of(0, &OPERATORS) => {
                return Err(self.unexpected(&format!("an operator after {name}")));
            }
            _ => {}
        }
        let next = self.names.len();
        let index = *self.index.entry(name.clone()).or_insert(next);
        if index == next {
            self.names.push(Name { name, quoted, at });
        }
        self.places.push(at);
        Ok(Node::Field(index))
    }

    /// How tightly the operator that stands here binds, if one does.
    fn infix_level(&self) -> Option<u8> {
        match self.peek() {
            Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => {
                Some(COMPARE)
            }
            Token::Plus | Token::Minus => Some(SUM),
            Token::Mul | Token::Div | Token::Mod => Some(PRODUCT),
            Token::Word(word) => match word.keyword {
                Keyword::OR => Some(OR),
                Keyword::AND => Some(AND),
                Keyword::IS => Some(IS),
                _ => {
                    let ahead = usize::from(word.keyword == Keyword::NOT);
                    self.is_one_of(ahead, &[Keyword::IN, Keyword::BETWEEN, Keyword::LIKE]).then_some(COMPARE)
                }
            },
            _ => None,
        }
    }

    /// `left`, the operator that stands here, and what follows it.
    fn infix(&mut self, left: Part, level: u8) -> Result<Part> {
        match level {
            OR | AND => {
                self.sql.advance_token();
                let right = self.expression(level + 1)?;
                let depth = right.depth;
                // One list for the whole chain: a tree as deep as the chain is long could not be walked.
                match (level, left.node) {
                    (OR, Node::Or(mut list)) => {
                        list.push(right.node);
                        self.over((left.depth - 1).max(depth), Node::Or(list))
                    }
                    (AND, Node::And(mut list)) => {
                        list.push(right.node);
                        self.over((left.depth - 1).max(depth), Node::And(list))
                    }
                    (OR, node) => self.over(left.depth.max(depth), Node::Or(vec![node, right.node])),
                    (_, node) => self.over(left.depth.max(depth), Node::And(vec![node, right.node])),
                }
            }
            IS => self.is(left),
            COMPARE => self.compare(left),
            _ => {
                let op = match self.peek() {
                    Token::Plus => Arith::Add,
                    Token::Minus => Arith::Sub,
                    Token::Mul => Arith::Mul,
                    Token::Div => Arith::Div,
                    _ => Arith::Rem,
                };
                self.sql.advance_token();
                let right = self.expression(level + 1)?;
                let depth = left.depth.max(right.depth);
                self.over(depth, Node::Arith(op, Box::new(left.node), Box::new(right.node)))
            }
        }
    }

    fn is(&mut self, left: Part) -> Result<Part> {
        self.sql.advance_token();
        let negated = self.sql.parse_keyword(Keyword::NOT);
        let value = Box::new(left.node);
        let node = if self.sql.parse_keyword(Keyword::NULL) {
            Node::IsNull(value)
        } else if self.sql.parse_keyword(Keyword::TRUE) {
            Node::Is(value, true)
        } else if self.sql.parse_keyword(Keyword::FALSE) {
            Node::Is(value, false)
        } else {
            return Err(self.unexpected("null, true or false"));
        };
        self.negate_if(negated, left.depth, node)
    }

    /// `node` over a part of `depth`, or its negation.
    fn negate_if(&self, negated: bool, depth: usize, node: Node) -> Result<Part> {
        let part = self.over(depth, node)?;
        if negated { self.over(part.depth, Node::Not(Box::new(part.node))) } else { Ok(part) }
    }

    fn compare(&mut self, left: Part) -> Result<Part> {
        let op = match self.peek() {
            Token::Eq | Token::DoubleEq => Some(Op::Eq),
            Token::Neq => Some(Op::Ne),
            Token::Lt => Some(Op::Lt),
            Token::LtEq => Some(Op::Le),
            Token::Gt => Some(Op::Gt),
            Token::GtEq => Some(Op::Ge),
            _ => None,
        };
        let value = Box::new(left.node);
        if let Some(op) = op {
            self.sql.advance_token();
            let right = self.expression(SUM)?;
            return self.over(left.depth.max(right.depth), Node::Compare(op, value, Box::new(right.node)));
        }
        let negated = self.sql.parse_keyword(Keyword::NOT);
        if self.sql.parse_keyword(Keyword::LIKE) {
            let pattern = self.expression(SUM)?;
            if self.is_one_of(0, &[Keyword::ESCAPE]) {
                return Err(self.fail_here("like has no escape here; % is any text and _ is any one character"));
            }
            let depth = left.depth.max(pattern.depth);
            return self.negate_if(negated, depth, Node::Like(value, Box::new(pattern.node)));
        }
        if self.sql.parse_keyword(Keyword::BETWEEN) {
            let low = self.expression(SUM)?;
            if !self.sql.parse_keyword(Keyword::AND) {
                return Err(self.unexpected("the and of between"));
            }
            let high = self.expression(SUM)?;
            let depth = left.depth.max(low.depth).max(high.depth);
            return self.negate_if(negated, depth, Node::Between(value, Box::new(low.node), Box::new(high.node)));
        }
        self.sql.advance_token();
        if !self.sql.consume_token(&Token::LParen) {
            return Err(self.unexpected("the parenthesis that opens the list of in"));
        }
        let (mut list, mut depth) = (Vec::new(), left.depth);
        loop {
            let item = self.expression(OR)?;
            depth = depth.max(item.depth);
            list.push(item.node);
            if self.sql.consume_token(&Token::RParen) {
                break;
            }
            if !self.sql.consume_token(&Token::Comma) {
                return Err(self.unexpected("a comma or a closing parenthesis"));
            }
        }
        self.negate_if(negated, depth, Node::In(value, list))
    }
}

/// A regular expression, or what is wrong with it.
pub(super) fn regexp(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| {
        // Of a syntax error, which quotes the pattern over several lines, the last line says what it is.
        let what = e.to_string();
        let what = what.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{} is no regular expression: {what}", quoted(pattern))
    })
}

/// Digits are an integer of any size that 128 bits hold; a point or an exponent makes a 64-bit float.
fn number(digits: &str) -> Option<Node> {
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits.parse().ok().map(Node::Int);
    }
    digits.parse().ok().filter(|x: &f64| x.is_finite()).map(Node::Float)
}
