//! Words of the language: an expression's text becomes tokens, each with the byte where it starts.

use super::CompileError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Identifier(String),
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer signs first, so that the longest one wins.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", ".?", "[?", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "+", "-", "*",
    "/", "%", "<", ">",
];

pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, CompileError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        found.push((token, start));
        if done {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let taken = rest[..rest.find(|c| !keep(c)).unwrap_or(rest.len())].to_owned();
        self.at += taken.len();
        taken
    }

    fn error<T>(&self, at: usize, what: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError { at, reason: format!("Syntax error: {}", what.into()) })
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, CompileError> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        if let Some(length) = self.quote_prefix() {
            return self.quoted(length);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Identifier(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        let second = self.rest().chars().nth(1);
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if first == '!' && second != Some('=') {
            self.next();
            return Ok(Token::Sign("!"));
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => self.error(self.at, format!("token recognition error at: '{first}'")),
        }
    }

    /// How many letters (`r`, `b`) stand before a quote that starts here.
    fn quote_prefix(&self) -> Option<usize> {
        let letters: Vec<char> = self.rest().chars().take(3).collect();
        let is = |at: usize, set: &str| letters.get(at).is_some_and(|c| set.contains(*c));
        match () {
            () if is(0, "'\"") => Some(0),
            () if is(0, "rRbB") && is(1, "'\"") => Some(1),
            () if is(0, "rR") && is(1, "bB") && is(2, "'\"") => Some(2),
            () if is(0, "bB") && is(1, "rR") && is(2, "'\"") => Some(2),
            () => None,
        }
    }

    fn number(&mut self) -> Result<Token, CompileError> {
        let start = self.at;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(start, &digits, 16);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        let mut fractional = false;
        if self.peek() == Some('.') && self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit()) {
            fractional = true;
            self.next();
            self.take_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let mark = self.at;
            self.next();
            if matches!(self.peek(), Some('+' | '-')) {
                self.next();
            }
            if self.take_while(|c| c.is_ascii_digit()).is_empty() {
                self.at = mark;
            } else {
                fractional = true;
            }
        }
        if !fractional {
            return self.whole(start, &digits, 10);
        }
        match self.text[start..self.at].parse() {
            Ok(number) => Ok(Token::Double(number)),
            Err(_) => self.error(start, "invalid double literal"),
        }
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, CompileError> {
        let Ok(number) = u64::from_str_radix(digits, radix) else { return self.error(start, "invalid int literal") };
        if matches!(self.peek(), Some('u' | 'U')) {
            self.next();
            return Ok(Token::Uint(number));
        }
        Ok(Token::Int(number))
    }

    fn quoted(&mut self, prefix: usize) -> Result<Token, CompileError> {
        let start = self.at;
        let letters = self.text[start..start + prefix].to_ascii_lowercase();
        let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
        self.at += prefix;
        let quote = self.next().unwrap_or('"');
        let triple: String = [quote; 3].iter().collect();
        let long = self.text[self.at - 1..].starts_with(&triple);
        if long {
            self.at += 2;
        }
        let mut found = Vec::new();
        loop {
            if long && self.rest().starts_with(&triple) {
                self.at += 3;
                break;
            }
            match self.next() {
                None => return self.error(start, "unterminated string literal"),
                Some('\n' | '\r') if !long => return self.error(start, "unterminated string literal"),
                Some(c) if c == quote && !long => break,
                Some('\\') if !raw => self.escape(bytes, &mut found)?,
                Some(c) => found.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if bytes {
            return Ok(Token::Bytes(found));
        }
        match String::from_utf8(found) {
            Ok(text) => Ok(Token::String(text)),
            Err(_) => self.error(start, "invalid string literal"),
        }
    }

    fn escape(&mut self, bytes: bool, found: &mut Vec<u8>) -> Result<(), CompileError> {
        let at = self.at;
        let plain = match self.next() {
            Some('a') => 7,
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 11,
            Some(c @ ('\\' | '\'' | '"' | '`' | '?')) => c as u8,
            Some('x' | 'X') => return self.code(2, 16, bytes, found),
            Some('u') if !bytes => return self.code(4, 16, false, found),
            Some('U') if !bytes => return self.code(8, 16, false, found),
            Some('0'..='3') => {
                self.at = at;
                return self.code(3, 8, bytes, found);
            }
            _ => return self.error(at, "invalid escape sequence"),
        };
        found.push(plain);
        Ok(())
    }

    /// A character (of a string) or a byte (of bytes) by its number.
    fn code(&mut self, digits: usize, radix: u32, bytes: bool, found: &mut Vec<u8>) -> Result<(), CompileError> {
        let at = self.at;
        let text = self.rest().get(..digits).filter(|text| text.chars().all(|c| c.is_digit(radix)));
        let Some(number) = text.and_then(|text| u32::from_str_radix(text, radix).ok()) else {
            return self.error(at, "invalid escape sequence");
        };
        self.at += digits;
        match (bytes, u8::try_from(number), char::from_u32(number)) {
            (true, Ok(byte), _) => found.push(byte),
            (false, _, Some(c)) => found.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return self.error(at, "invalid unicode code point"),
        }
        Ok(())
    }
}
