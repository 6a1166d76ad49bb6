//! Questions to a person on a terminal.

use std::io::{BufRead, Write};

use super::super::Failure;

/// Where questions go and answers come from.
pub struct Dialogue<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

impl<'a> Dialogue<'a> {
    pub fn new(input: &'a mut dyn BufRead, output: &'a mut dyn Write) -> Self {
        Self { input, output }
    }

    /// Asks until `parse` takes the answer.
    pub fn ask<T>(
        &mut self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let failed = |why| Failure::Runtime(format!("cannot ask: {why}"));
        loop {
            write!(self.output, "{question}: ").and_then(|()| self.output.flush()).map_err(failed)?;
            let mut line = String::new();
            if self.input.read_line(&mut line).map_err(failed)? == 0 {
                return Err(Failure::Usage("no answer; nothing was written".to_owned()));
            }
            match parse(line.trim()) {
                Ok(answer) => return Ok(answer),
                Err(why) => writeln!(self.output, "  {why}").map_err(failed)?,
            }
        }
    }
}
