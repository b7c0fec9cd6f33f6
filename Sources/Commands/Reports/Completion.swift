/// Completion scripts, generated from the definitions of options and commands.
package enum Completion: String, Sendable, CaseIterable {
  case bash, zsh, fish

  /// Where each shell finds the completions of installed programs, below /usr/share or /usr/local/share.
  package var path: String {
    switch self {
    case .bash: "bash-completion/completions/consul-bootstrap"
    case .zsh: "zsh/site-functions/_consul-bootstrap"
    case .fish: "fish/vendor_completions.d/consul-bootstrap.fish"
    }
  }

  package var script: String {
    switch self {
    case .bash: Self.bashScript
    case .zsh: Self.zshScript
    case .fish: Self.fishScript
    }
  }

  // MARK: What can be completed

  private enum Value {
    case words([String])
    case file, directory, user
    /// Free text.
    case any
    case none
  }

  private static func value(of option: Option) -> Value {
    guard case .value(let word) = option.shape else {
      if case .list(let word) = option.shape { return word == "FILE" ? .file : .any }
      return .none
    }
    if word.contains("|") { return .words(word.split(separator: "|").map(String.init)) }
    switch (option.name, word) {
    case ("consul", _), (_, "FILE"): return .file
    case (_, "DIR"): return .directory
    case ("user", _): return .user
    case ("log-level", _): return .words(["debug", "info", "warning", "error"])
    case ("consul-log-level", _): return .words(["trace", "debug", "info", "warn", "err"])
    default: return .any
    }
  }

  private static let commands = Subcommand.all

  /// The first clause of a help text: a completion has one line.
  private static func brief(_ text: String) -> String { text.split(separator: ";").first.map(String.init) ?? text }

  // MARK: bash

  private static var bashScript: String {
    var cases = ""
    for option in Option.all {
      switch value(of: option) {
      case .words(let words):
        cases += "    --\(option.name)) _consul_bootstrap_words '\(words.joined(separator: " "))'; return ;;\n"
      case .file: cases += "    --\(option.name)) _consul_bootstrap_files; return ;;\n"
      case .directory: cases += "    --\(option.name)) _consul_bootstrap_files -d; return ;;\n"
      case .user: cases += "    --\(option.name)) _consul_bootstrap_files -u; return ;;\n"
      case .any: cases += "    --\(option.name)) return ;;\n"
      case .none: break
      }
    }
    let options = (Option.all.map { "--\($0.name)" } + ["--config", "--help", "--version"]).joined(separator: " ")
    return """
      # bash completion of consul-bootstrap: consul-bootstrap completion bash
      _consul_bootstrap_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
      _consul_bootstrap_files() {
        compopt -o filenames 2> /dev/null
        mapfile -t COMPREPLY < <(compgen "${1:--f}" -- "$cur")
      }
      _consul_bootstrap() {
        local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
        COMPREPLY=()
        case $prev in
          --config) _consul_bootstrap_files; return ;;
          completion) _consul_bootstrap_words 'bash zsh fish'; return ;;
      \(cases)  esac
        if [[ $cur == -* ]]; then
          _consul_bootstrap_words '\(options)'
        elif [[ $COMP_CWORD -eq 1 ]]; then
          _consul_bootstrap_words '\(commands.map(\.name).joined(separator: " "))'
        fi
      }
      complete -F _consul_bootstrap consul-bootstrap

      """
  }

  // MARK: zsh

  /// Inside single quotes and `_arguments`' brackets.
  private static func zshQuoted(_ text: String) -> String {
    text.replacing("'", with: "'\\''").replacing("[", with: "\\[").replacing("]", with: "\\]").replacing(
      ":", with: "\\:")
  }

  private static var zshScript: String {
    var lines: [String] = []
    for option in Option.all {
      let mark = option.isList ? "*" : ""
      let word = zshQuoted(option.metavariable.trimmingBlanks)
      let action: String
      switch value(of: option) {
      case .words(let words): action = ":\(word):(\(words.joined(separator: " ")))"
      case .file: action = ":\(word):_files"
      case .directory: action = ":\(word):_files -/"
      case .user: action = ":\(word):_users"
      case .any: action = ":\(word): "
      case .none: action = ""
      }
      lines.append("    '\(mark)--\(option.name)[\(zshQuoted(brief(option.help)))]\(action)'")
    }
    lines.append("    '--config[JSON with these options as keys]:FILE:_files'")
    lines.append("    '(- *)'{-h,--help}'[help]'")
    lines.append("    '(- *)'{-V,--version}'[the version]'")
    let list = commands.map { "    '\($0.name):\(zshQuoted($0.summary))'" }.joined(separator: "\n")
    return """
      #compdef consul-bootstrap
      # zsh completion of consul-bootstrap: consul-bootstrap completion zsh
      _consul-bootstrap() {
        local -a commands options
        commands=(
      \(list)
        )
        options=(
      \(lines.joined(separator: "\n"))
        )
        if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
          _describe command commands
        elif [[ $words[2] == completion ]]; then
          _values shell bash zsh fish
        else
          [[ $words[2] == -* ]] || { shift words; (( CURRENT-- )) }
          _arguments $options
        fi
      }
      if [[ $funcstack[1] == _consul-bootstrap ]]; then _consul-bootstrap "$@"
      else compdef _consul-bootstrap consul-bootstrap; fi

      """
  }

  // MARK: fish

  private static func fishQuoted(_ text: String) -> String {
    "'" + text.replacing("\\", with: "\\\\").replacing("'", with: "\\'") + "'"
  }

  private static var fishScript: String {
    var lines = [
      "# fish completion of consul-bootstrap: consul-bootstrap completion fish", "complete -c consul-bootstrap -f",
    ]
    for command in commands {
      lines.append(
        "complete -c consul-bootstrap -n __fish_use_subcommand -a \(command.name) -d \(fishQuoted(command.summary))"
      )
    }
    lines.append("complete -c consul-bootstrap -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'")
    for option in Option.all {
      var line = "complete -c consul-bootstrap -l \(option.name) -d \(fishQuoted(brief(option.help)))"
      switch value(of: option) {
      case .words(let words): line += " -x -a \(fishQuoted(words.joined(separator: " ")))"
      case .file: line += " -r -F"
      case .directory: line += " -x -a '(__fish_complete_directories)'"
      case .user: line += " -x -a '(__fish_complete_users)'"
      case .any: line += " -x"
      case .none: break
      }
      lines.append(line)
    }
    lines.append("complete -c consul-bootstrap -l config -r -F -d 'JSON with these options as keys'")
    lines.append("complete -c consul-bootstrap -s h -l help -d 'help'")
    lines.append("complete -c consul-bootstrap -s V -l version -d 'the version'")
    return lines.joined(separator: "\n") + "\n"
  }
}

extension String {
  fileprivate var trimmingBlanks: String { String(drop { $0 == " " }) }
}
