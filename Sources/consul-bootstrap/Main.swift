internal import Commands

/// Not `async`: Swift's own main queue ends the main thread by unwinding it, which in a static program first sorts
/// every unwind entry that there is: 52 of the 94 million instructions of a dry run (callgrind).
@main
enum Main {
  static func main() {
    Program.main()
  }
}
