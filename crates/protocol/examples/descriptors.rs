//! Prints the encoded descriptor set; `make descriptors` keeps it as the released contract.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(understudy_protocol::FILE_DESCRIPTOR_SET)
}
