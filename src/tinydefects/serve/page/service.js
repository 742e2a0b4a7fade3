// What the page asks its service: with the key where one is needed, and patient where the service is busy.

const KEY = "tinydefects-key"; // kept as long as this tab is open

/** An answer that is none: its status, and the service's own line. */
export class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

export class Service {
  /**
   * @param {() => Promise<string>} askKey called where a key is missing or wrong
   * @param {(seconds: number, line: string) => void} tellWaiting called each second; 0 when the wait is over
   */
  constructor(askKey, tellWaiting) {
    this.askKey = askKey;
    this.tellWaiting = tellWaiting;
    this.asking = null;
  }

  /** Ask until there is an answer: keys are asked for once for all, busy services are asked again when they say. */
  async ask(path, { method = "GET", body = null, type = null } = {}) {
    for (;;) {
      const headers = {};
      const key = sessionStorage.getItem(KEY);
      if (key) headers.Authorization = `Bearer ${key}`;
      if (type) headers["Content-Type"] = type;
      let answer;
      try {
        answer = await fetch(path, { method, body, headers, cache: "no-store" });
      } catch {
        throw new Refused(0, "the service does not answer, or the file can no longer be read");
      }
      if (answer.ok) return answer;
      if (answer.status === 401) {
        if (sessionStorage.getItem(KEY) === key) sessionStorage.removeItem(KEY);
        if (!sessionStorage.getItem(KEY)) await this.newKey(Boolean(key));
      } else if (answer.status === 429) {
        await this.wait(Number(answer.headers.get("Retry-After")) || 1);
      } else {
        throw new Refused(answer.status, await lineOf(answer));
      }
    }
  }

  async newKey(wasWrong) {
    this.asking ??= this.askKey(wasWrong).finally(() => (this.asking = null));
    sessionStorage.setItem(KEY, await this.asking);
  }

  async wait(seconds) {
    for (let left = seconds; left > 0; left -= 1) {
      this.tellWaiting(left);
      await new Promise((done) => setTimeout(done, 1000));
    }
    this.tellWaiting(0);
  }

  async json(path) {
    return (await this.ask(path)).json();
  }

  models() {
    return this.json("models");
  }

  calibration(model) {
    return this.json(`models/${model}/calibration`);
  }

  /** The decision of a photograph, and its map as a blob of 32-bit floats. */
  async inspect(model, file) {
    const asked = { method: "POST", body: file, type: "application/octet-stream" };
    const form = await (await this.ask(`models/${model}/map`, asked)).formData();
    return { ...JSON.parse(form.get("decision")), map: form.get("map") };
  }

  /** The photograph as the model sees it. */
  async photograph(model, file) {
    const asked = { method: "POST", body: file, type: "application/octet-stream" };
    return (await this.ask(`models/${model}/photograph`, asked)).blob();
  }

  /** Add good parts to the thresholds of this revision. */
  async addGood(model, revision, files) {
    const body = new FormData();
    for (const file of files) body.append("photographs", file, file.name);
    const path = `models/${model}/good-parts?revision=${encodeURIComponent(revision)}`;
    return (await this.ask(path, { method: "POST", body })).json();
  }
}

async function lineOf(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : JSON.stringify(detail);
  } catch {
    return `the service answers ${answer.status}`;
  }
}
