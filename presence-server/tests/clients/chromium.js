/** Debian's Chromium, and the pages that phoenix.js runs in. */

import { once } from "node:events"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { chromium } from "playwright-core"
import { LIMIT } from "./expect.js"

const QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

/** Starts a browser without a window. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Where it runs as root, as in a container, it has no sandbox.
    args: ["--disable-gpu", "--disable-dev-shm-usage", ...QUIET],
    chromiumSandbox: process.getuid?.() !== 0,
    timeout: LIMIT,
  })
}

/** The pages of one visitor, which are closed together. */
export class Pages {
  #context
  #errors = []

  static async in(browser, options = {}) {
    const pages = new Pages()
    pages.#context = await browser.newContext(options)
    pages.#context.setDefaultTimeout(LIMIT)
    pages.#context.on("weberror", error => pages.#errors.push(error.error().stack))
    return pages
  }

  async open(url) {
    const page = await this.#context.newPage()
    await page.goto(url)
    return page
  }

  /** Closes all of them, and gives the errors that their scripts did not catch. */
  async close() {
    await this.#context.close()
    return this.#errors
  }
}

/** A page of its own origin, on which a `Tab` with phoenix.js is made. */
export async function servePhoenix() {
  const files = {
    "/": ["text/html", "<!doctype html><meta charset=utf-8><title>phoenix.js</title><link rel=icon href=data:,>"],
    "/phoenix.mjs": ["text/javascript", await readFile(new URL(import.meta.resolve("phoenix")), "utf8")],
    "/tab.js": ["text/javascript", await readFile(new URL("tab.js", import.meta.url), "utf8")],
  }
  const server = createServer((request, response) => {
    const [type, text] = files[request.url] ?? []
    response.writeHead(type ? 200 : 404, { "content-type": type ?? "text/plain" }).end(text ?? "not found")
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.closeAllConnections() ?? server.close() }
}
