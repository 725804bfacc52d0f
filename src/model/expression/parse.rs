//! From a text to a condition: words, then precedence, then types.

use std::time::Duration;

use http::HeaderName;
use regex::RegexBuilder;

use super::{Attribute, Comparison, LONGEST, Method, NAMES, Node, Type, Unreadable, Value};

/// How deep parentheses and negations may be: the parser calls itself.
const DEPTH: usize = 64;

/// The largest compiled regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// A word with the place of its first character, counted from 1.
type Word = (Token, usize);

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Int(i64),
    Name(String),
    Sign(&'static str),
    Text(String),
}

/// A part whose type is known.
type Typed = (Node, Type);

type Result<T> = std::result::Result<T, Unreadable>;

const SIGNS: [&str; 18] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-", "?", ":",
];

/// Reads a whole condition.
pub(super) fn condition(text: &str) -> Result<Node> {
    if text.len() > LONGEST {
        let text = format!(
            "an expression of {} bytes: {LONGEST} are allowed",
            text.len()
        );
        return Err(Unreadable { text, at: 1 });
    }
    let mut parser = Parser {
        words: words(text)?,
        next: 0,
        end: text.chars().count() + 1,
        depth: 0,
    };
    let at = parser.at();
    let (node, kind) = parser.either()?;
    if parser.next < parser.words.len() {
        return Err(parser.fault("more follows where the condition is over"));
    }
    if kind != Type::Bool {
        let text = format!("a condition is true or false, this is {kind}");
        return Err(Unreadable { text, at });
    }
    Ok(node)
}

fn words(text: &str) -> Result<Vec<Word>> {
    let characters: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut index = 0;
    while let Some(&first) = characters.get(index) {
        let at = index + 1;
        let rest = characters.get(index..).unwrap_or_default();
        if first.is_whitespace() {
            index += 1;
        } else if first.is_ascii_digit() {
            let digits: String = rest.iter().take_while(|c| c.is_ascii_digit()).collect();
            index += digits.len();
            let number = digits.parse().map_err(|_| Unreadable {
                text: format!("the number {digits} is too large"),
                at,
            })?;
            words.push((Token::Int(number), at));
        } else if first.is_ascii_alphabetic() || first == '_' {
            let part = |c: &&char| c.is_ascii_alphanumeric() || **c == '_';
            let name: String = rest.iter().take_while(part).collect();
            index += name.len();
            words.push((Token::Name(name), at));
        } else if matches!(first, '\'' | '"') {
            let (value, length) = quoted(rest, at)?;
            index += length;
            words.push((Token::Text(value), at));
        } else {
            let starts = |sign: &&&str| rest.starts_with(&sign.chars().collect::<Vec<_>>());
            let sign = SIGNS.iter().find(starts).ok_or_else(|| Unreadable {
                text: format!("the character {first:?} has no meaning here"),
                at,
            })?;
            index += sign.len();
            words.push((Token::Sign(sign), at));
        }
    }
    Ok(words)
}

/// A quoted text and how many characters it takes.
fn quoted(rest: &[char], at: usize) -> Result<(String, usize)> {
    let mut value = String::new();
    let mut characters = rest.iter().copied().enumerate();
    let end = characters.next().map(|(_, quote)| quote);
    while let Some((index, c)) = characters.next() {
        if Some(c) == end {
            return Ok((value, index + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match characters.next().map(|(_, c)| c) {
            Some('n') => value.push('\n'),
            Some('t') => value.push('\t'),
            Some(c @ ('\\' | '\'' | '"')) => value.push(c),
            other => {
                let found = other.map_or(String::new(), String::from);
                let text = format!("\\{found} is known to be none of \\n \\t \\\\ \\' \\\"");
                return Err(Unreadable { text, at });
            }
        }
    }
    let text = "a quoted text is not closed".to_owned();
    Err(Unreadable { text, at })
}

struct Parser {
    words: Vec<Word>,
    next: usize,
    /// Where the text ends.
    end: usize,
    depth: usize,
}

impl Parser {
    fn at(&self) -> usize {
        self.words.get(self.next).map_or(self.end, |(_, at)| *at)
    }

    fn fault(&self, text: impl Into<String>) -> Unreadable {
        Unreadable {
            text: text.into(),
            at: self.at(),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.words.get(self.next).map(|(token, _)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    /// Takes a sign if it is the next word.
    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(self.fault(format!("expected {sign}")))
    }

    fn of(&self, part: Typed, wanted: Type, at: usize) -> Result<Node> {
        let (node, kind) = part;
        if kind == wanted {
            return Ok(node);
        }
        let text = format!("expected {wanted}, this is {kind}");
        Err(Unreadable { text, at })
    }

    /// `one || other`
    fn either(&mut self) -> Result<Typed> {
        self.chain("||", Self::both, Node::Or)
    }

    /// `one && other`
    fn both(&mut self) -> Result<Typed> {
        self.chain("&&", Self::relation, Node::And)
    }

    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Result<Typed>,
        join: fn(Box<Node>, Box<Node>) -> Node,
    ) -> Result<Typed> {
        let start = self.at();
        let mut whole = part(self)?;
        while self.eat(sign) {
            let one = self.of(whole, Type::Bool, start)?;
            let at = self.at();
            let other = part(self)?;
            let other = self.of(other, Type::Bool, at)?;
            whole = (join(Box::new(one), Box::new(other)), Type::Bool);
        }
        Ok(whole)
    }

    /// `one == other`, `one in [...]`
    fn relation(&mut self) -> Result<Typed> {
        let one = self.unary()?;
        let signs = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (sign, comparison) in signs {
            if self.eat(sign) {
                let at = self.at();
                let other = self.unary()?;
                let other = self.of(other, one.1, at)?;
                let node = Node::Compare(comparison, Box::new(one.0), Box::new(other));
                return Ok((node, Type::Bool));
            }
        }
        if self.peek() != Some(&Token::Name("in".into())) {
            return Ok(one);
        }
        self.next += 1;
        self.expect("[")?;
        let mut items = Vec::new();
        while !self.eat("]") {
            let at = self.at();
            let item = self.unary()?;
            items.push(self.of(item, one.1, at)?);
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok((Node::In(Box::new(one.0), items), Type::Bool))
    }

    fn unary(&mut self) -> Result<Typed> {
        if self.depth >= DEPTH {
            return Err(self.fault(format!("deeper than {DEPTH} levels")));
        }
        self.depth += 1;
        let result = if self.eat("!") {
            let at = self.at();
            let inner = self.unary()?;
            let inner = self.of(inner, Type::Bool, at)?;
            Ok((Node::Not(Box::new(inner)), Type::Bool))
        } else {
            let primary = self.primary()?;
            self.methods(primary)
        };
        self.depth -= 1;
        result
    }

    fn primary(&mut self) -> Result<Typed> {
        if self.eat("(") {
            let inner = self.either()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let negative = self.eat("-");
        let start = self.at();
        let unknown = || Unreadable {
            text: "expected a value or an attribute".into(),
            at: start,
        };
        match (self.take().ok_or_else(unknown)?, negative) {
            (Token::Int(number), _) => {
                let number = if negative { -number } else { number };
                Ok((Node::Literal(Value::Int(number)), Type::Int))
            }
            (Token::Text(text), false) => Ok((Node::Literal(Value::Text(text.into())), Type::Text)),
            (Token::Name(name), false) => self.named(&name, start),
            (Token::Sign(_) | Token::Text(_) | Token::Name(_), _) => Err(unknown()),
        }
    }

    fn named(&mut self, name: &str, start: usize) -> Result<Typed> {
        match name {
            "true" | "false" => Ok((Node::Literal(Value::Bool(name == "true")), Type::Bool)),
            "has" => {
                self.expect("(")?;
                let (attribute, _) = self.attribute(None)?;
                self.expect(")")?;
                Ok((Node::Has(attribute), Type::Bool))
            }
            "duration" => {
                self.expect("(")?;
                let text = self.literal()?;
                self.expect(")")?;
                let duration = duration(&text).ok_or_else(|| Unreadable {
                    text: format!("{text:?} is no duration such as \"1.5s\" or \"20ms\""),
                    at: start,
                })?;
                let literal = Node::Literal(Value::Duration(duration));
                Ok((literal, Type::Duration))
            }
            _ => {
                let (attribute, kind) = self.attribute(Some((name, start)))?;
                Ok((Node::Attribute(attribute), kind))
            }
        }
    }

    fn literal(&mut self) -> Result<String> {
        let fault = self.fault("expected a quoted text");
        match self.take() {
            Some(Token::Text(text)) => Ok(text),
            Some(Token::Int(_) | Token::Name(_) | Token::Sign(_)) | None => Err(fault),
        }
    }

    fn name(&mut self) -> Result<String> {
        let fault = self.fault("expected a name");
        match self.take() {
            Some(Token::Name(name)) => Ok(name),
            Some(Token::Int(_) | Token::Text(_) | Token::Sign(_)) | None => Err(fault),
        }
    }

    /// `group.name`, or `group.headers['name']`.
    fn attribute(&mut self, first: Option<(&str, usize)>) -> Result<(Attribute, Type)> {
        let start = first.map_or_else(|| self.at(), |(_, at)| at);
        let group = match first {
            Some((name, _)) => name.to_owned(),
            None => self.name()?,
        };
        let mut whole = group.clone();
        if self.eat(".") {
            whole = format!("{group}.{}", self.name()?);
        }
        if matches!(&*whole, "request.headers" | "response.headers") {
            self.expect("[")?;
            let at = self.at();
            let text = self.literal()?;
            self.expect("]")?;
            let name = text.to_ascii_lowercase();
            let name = HeaderName::try_from(name).map_err(|_| Unreadable {
                text: format!("{text:?} is no name of a header"),
                at,
            })?;
            let attribute = match &*group {
                "request" => Attribute::RequestHeader(name),
                _ => Attribute::ResponseHeader(name),
            };
            return Ok((attribute, Type::Text));
        }
        let known = NAMES.iter().find(|(name, ..)| *name == whole);
        let (_, attribute, kind) = known.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
            let text = format!(
                "{whole} is not known here: known are {}, request.headers['name'] and \
                 response.headers['name']",
                names.join(", ")
            );
            Unreadable { text, at: start }
        })?;
        Ok((attribute.clone(), *kind))
    }

    /// `.startsWith('a')` and its like.
    fn methods(&mut self, of: Typed) -> Result<Typed> {
        if of.1 != Type::Text || !self.eat(".") {
            return Ok(of);
        }
        let at = self.at();
        let name = self.name()?;
        let text = Box::new(of.0);
        self.expect("(")?;
        let node = match &*name {
            "matches" => {
                let pattern = self.literal()?;
                let regex = RegexBuilder::new(&pattern).size_limit(REGEX_SIZE).build();
                let regex = regex.map_err(|_| Unreadable {
                    text: format!("{pattern:?} is no regular expression (RE2)"),
                    at,
                })?;
                Node::Matches(text, regex)
            }
            "contains" | "endsWith" | "startsWith" => {
                let method = match &*name {
                    "contains" => Method::Contains,
                    "endsWith" => Method::EndsWith,
                    _ => Method::StartsWith,
                };
                let start = self.at();
                let part = self.unary()?;
                let part = self.of(part, Type::Text, start)?;
                Node::Text(method, text, Box::new(part))
            }
            other => {
                let text = format!(
                    "{other} is not known here: known are contains, endsWith, matches, startsWith"
                );
                return Err(Unreadable { text, at });
            }
        };
        self.expect(")")?;
        Ok((node, Type::Bool))
    }
}

/// `1.5s`, `20ms`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(split)?;
    let seconds = match unit {
        "h" => 3_600.0,
        "m" => 60.0,
        "ms" => 0.001,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}
