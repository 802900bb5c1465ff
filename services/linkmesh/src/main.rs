//! The program itself; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkmesh::main()
}
