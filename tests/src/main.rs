//! The `linkmesh` program as the system tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkmesh::main()
}
