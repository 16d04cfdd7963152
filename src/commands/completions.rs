//! `weir completions SHELL`: what the shell needs to know to complete our lines.

use crate::commands::{Done, say};
use clap::Command;
use clap_complete::Shell;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  weir completions bash > ~/.local/share/bash-completion/completions/weir\n  weir completions zsh > \"${fpath[1]}/_weir\"\n  weir completions fish > ~/.config/fish/completions/weir.fish"
)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments, mut line: Command) -> Done {
    let mut script = Vec::new();
    let name = line.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut line, name, &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
