package import Base
package import Model

extension CurrentConfiguration {
  /// Reads the agent's configuration file and the others of its directory. An unreadable file is not absent.
  package init(reading path: String, _ files: any FileReader) {
    let reader = CheckedReader(files)
    let others = ConfigurationDirectory(path: parentDirectory(of: path), reader: reader).files(except: path)
    self.init(reading: path, beside: others, reader)
  }

  init(reading path: String, beside others: [OtherConfigurationFile], _ reader: CheckedReader) {
    let content: Content =
      switch reader.content(path) {
      case .absent: .absent
      case .text(let text): .present(Secret(text))
      case .unreadable(let reason): .unreadable(reason: reason)
      }
    self.init(content, at: path, beside: others)
  }
}
