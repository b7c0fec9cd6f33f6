/// The release, as `--version` prints it.
package let programVersion = "0.1.0"
