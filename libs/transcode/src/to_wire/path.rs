//! Where in a request a value is: made on the stack while it is read, and text only if something is wrong.

use std::fmt;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
    Key(&'p Path<'p>, &'p str),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_a_program() {
        let list = Path::Field(&Path::Root, "list");
        let item = Path::Index(&list, 3);
        let map = Path::Field(&item, "labels");
        assert_eq!(Path::Key(&map, "a").to_string(), "list[3].labels[a]");
        assert_eq!(Path::Root.to_string(), "");
    }
}
