/** The server under test, as a process of its own. */

import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const BINARY = process.env.PRESENCE_SERVER
  ?? fileURLToPath(new URL("../../../target/debug/presence-server", import.meta.url))

/** A running server. Each starts on a free port, and stays on it when it is started again. */
export class Server {
  #args
  #process
  #said = ""
  port = 0

  /** Starts a server; `args` are flags such as `"--app", "conformance"`. */
  static async start(...args) {
    const server = new Server()
    server.#args = args
    await server.#start()
    return server
  }

  get url() {
    return `http://127.0.0.1:${this.port}`
  }

  get socket() {
    return `ws://127.0.0.1:${this.port}/socket`
  }

  /** Ends the server with a signal, and waits until it has ended. */
  async stop(signal = "SIGTERM") {
    const process = this.#process
    if (process.exitCode !== null || process.signalCode !== null) return
    const ended = once(process, "exit", { signal: AbortSignal.timeout(30_000) })
    process.kill(signal)
    await ended.catch(() => {
      process.kill("SIGKILL")
      throw new Error(`the server did not end within 30 s of ${signal}`)
    })
  }

  /** Ends the server with a signal and starts it again on the same port. */
  async restart(signal) {
    await this.stop(signal)
    await this.#start()
  }

  async #start() {
    this.#said = ""
    const args = ["--port", String(this.port), ...this.#args]
    const started = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] })
    this.#process = started
    const kill = () => started.kill("SIGKILL")
    process.once("exit", kill)
    started.once("exit", () => process.off("exit", kill))
    started.stderr.setEncoding("utf8").on("data", text => (this.#said += text))
    const failed = new Promise((_, reject) => {
      started.once("error", error => reject(new Error(`${BINARY} does not start: ${error.message}`)))
      started.once("exit", code => reject(new Error(`the server ended with ${code}: ${this.#said}`)))
    })
    // Whoever waits for the first line hears of it; later it is no news.
    failed.catch(() => {})
    const lines = createInterface({ input: started.stdout })
    const [line] = await Promise.race([once(lines, "line"), failed])
    this.port = Number(/:(\d+)\b/.exec(line.replace("http:", ""))[1])
  }
}
