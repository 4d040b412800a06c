//! JSON with a line for each field and each element of the outer two levels, and the rest within them.

use std::io;

use serde_json::ser::Formatter;

/// How many levels are spread over lines.
const SPREAD: usize = 2;

/// Writes what lies deeper than two levels on one line.
pub(super) struct Lines {
    depth: usize,
    /// Whether the container that was written last has anything in it.
    filled: bool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            depth: 0,
            filled: false,
        }
    }

    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, with: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(with)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, with: &[u8]) -> io::Result<()> {
        let spread = self.filled && self.depth <= SPREAD;
        self.depth -= 1;
        if spread {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(with)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(if self.depth > SPREAD { b", " } else { b"," })?;
        }
        self.filled = true;
        if self.depth <= SPREAD {
            self.line(out)?;
        }
        Ok(())
    }

    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
