// SPDX-License-Identifier: Apache-2.0
// The chat page: talks to this server's own endpoints, keeps the conversation in memory only.
'use strict';

const $ = (id) => document.getElementById(id);
const SETTINGS = ['temperature', 'top-p', 'max-tokens', 'seed', 'system', 'trace'];

const state = {
  model: '',
  context: 0,
  messages: [],   // what the server is sent
  files: [],      // {name, text, tokens}, joined to the next message
  abort: null,    // of the answer that is being written
  answers: [],    // {tokens: [{text, lens}], pieces: promise of the prompt's pieces}
  chosen: null,   // the token the lens shows
};

// -- server --

function headers() {
  const key = $('api-key').value;
  const all = {'Content-Type': 'application/json'};
  if (key) all.Authorization = `Bearer ${key}`;
  return all;
}

async function call(path, body) {
  const options = body === undefined ? {headers: headers()}
    : {method: 'POST', headers: headers(), body: JSON.stringify(body)};
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error?.message ?? `HTTP ${response.status}`);
  return answer;
}

// Events of a stream, one parsed object each.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      for (const line of part.split('\n')) {
        if (!line.startsWith('data: ')) continue;
        const data = line.slice(6);
        if (data === '[DONE]') return;
        yield JSON.parse(data);
      }
    }
  }
}

async function connect() {
  try {
    const models = await call('v1/models');
    const model = models.data[0];
    state.model = model.id;
    state.context = model.max_model_len;
    $('model').textContent = `${model.id}, ${model.max_model_len.toLocaleString()} tokens`;
  } catch (error) {
    $('model').textContent = `no model: ${error.message}`;
  }
}

// -- conversation --

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function show(role, text, files = []) {
  $('hint').hidden = true;
  const box = element('article', `message ${role}`);
  for (const file of files) {
    box.append(element('span', 'file', `${file.name}, ${file.tokens.toLocaleString()} tokens`));
  }
  const body = element('span', 'body', text);
  box.append(body);
  $('conversation').append(box);
  box.scrollIntoView({block: 'end'});
  return {box, body};
}

function requestBody() {
  const body = {
    model: state.model, messages: state.messages, stream: true,
    stream_options: {include_usage: true}, return_progress: true,
    hga_trace: $('trace').checked,
  };
  const number = (id, name) => {
    if ($(id).value !== '') body[name] = Number($(id).value);
  };
  number('temperature', 'temperature');
  number('top-p', 'top_p');
  number('max-tokens', 'max_tokens');
  number('seed', 'seed');
  return body;
}

function takeQuestion() {
  const question = $('question').value.trim();
  const content = [...state.files.map((file) => file.text), question].filter(Boolean).join('\n\n');
  if (!content) return null;
  if (state.messages.length === 0 && $('system').value) {
    state.messages.push({role: 'system', content: $('system').value});
  }
  state.messages.push({role: 'user', content});
  show('user', question, state.files);
  state.files = [];
  $('question').value = '';
  showFiles();
  return content;
}

async function ask() {
  if (state.abort || !takeQuestion()) return;
  const view = show('assistant', '');
  const answer = {tokens: [], prompt: structuredClone(state.messages), pieces: null, context: 0};
  const started = performance.now();
  let text = '', first = 0, usage = null, finish = '';
  state.abort = new AbortController();
  working(true);
  try {
    const response = await fetch('v1/chat/completions', {
      method: 'POST', headers: headers(), body: JSON.stringify(requestBody()),
      signal: state.abort.signal,
    });
    if (!response.ok) {
      const said = await response.json().catch(() => ({}));
      throw new Error(said.error?.message ?? `HTTP ${response.status}`);
    }
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      if (event.prompt_progress) showProgress(event.prompt_progress);
      if (event.usage) usage = event.usage;
      const choice = event.choices?.[0];
      if (!choice) continue;
      finish = choice.finish_reason ?? finish;
      const piece = choice.delta?.content;
      if (!piece && !event.hga) continue;
      first ||= performance.now();
      $('progress').hidden = true;
      text += piece ?? '';
      addToken(view.body, answer, piece ?? '', event.hga ? unpack(event.hga) : undefined);
    }
  } catch (error) {
    if (error.name !== 'AbortError') {
      view.box.append(element('span', 'error', error.message));
    } else {
      finish = 'stopped';
    }
  }
  state.abort = null;
  working(false);
  if (text) {
    state.messages.push({role: 'assistant', content: text});
  } else {
    state.messages.pop();  // the question got no answer and can be asked again
  }
  const foot = footOf(usage, answer.tokens.length, started, first, finish);
  if (foot) view.box.append(element('span', 'foot', foot));
  countTokens();
}

function footOf(usage, tokens, started, first, finish) {
  const parts = [];
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    parts.push(`${usage.prompt_tokens.toLocaleString()} tokens read, ${cached.toLocaleString()} of them kept from before`);
    parts.push(`${usage.completion_tokens.toLocaleString()} written`);
  }
  if (first) {
    parts.push(`first after ${((first - started) / 1000).toFixed(2)} s`);
    const seconds = (performance.now() - first) / 1000;
    if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
  }
  if (finish && finish !== 'stop') parts.push(finish);
  return parts.join(' · ');
}

function addToken(body, answer, piece, lens) {
  const token = {text: piece, lens, answer};
  const span = element('span', lens ? 'token' : '', piece);
  if (lens) span.addEventListener('click', () => look(token, span));
  answer.tokens.push(token);
  body.append(span);
  const scroll = $('conversation');
  if (scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120) {
    scroll.scrollTop = scroll.scrollHeight;
  }
}

function working(on) {
  $('send').hidden = on;
  $('stop').hidden = !on;
  $('progress').hidden = true;
}

function showProgress(progress) {
  $('progress').hidden = false;
  $('progress-bar').value = progress.processed / progress.total;
  const fresh = progress.processed - progress.cache;
  const speed = progress.time_ms > 0 ? fresh / progress.time_ms * 1000 : 0;
  const left = speed > 0 ? (progress.total - progress.processed) / speed : 0;
  $('progress-text').textContent =
    `reading ${progress.processed.toLocaleString()} of ${progress.total.toLocaleString()} tokens, ` +
    `${speed.toFixed(0)}/s, ${left.toFixed(0)} s left`;
}

// -- files --

async function addFiles(list) {
  for (const file of list) {
    const text = await file.text();
    const entry = {name: file.name, text, tokens: 0};
    state.files.push(entry);
    showFiles();
    try {
      entry.tokens = (await call('tokenize', {content: text, count_only: true})).count;
    } catch (error) {
      entry.error = error.message;
    }
    showFiles();
  }
  countTokens();
}

function showFiles() {
  $('files').replaceChildren(...state.files.map((file, i) => {
    const what = file.error ?? (file.tokens ? `${file.tokens.toLocaleString()} tokens` : 'counting …');
    const item = element('li', '', `${file.name}, ${what}`);
    const remove = element('button', '', '×');
    remove.type = 'button';
    remove.title = 'Leave out';
    remove.addEventListener('click', () => {
      state.files.splice(i, 1);
      showFiles();
      countTokens();
    });
    item.append(remove);
    return item;
  }));
}

function countTokens() {
  const files = state.files.reduce((sum, file) => sum + file.tokens, 0);
  if (!files || !state.context) {
    $('budget').textContent = '';
    return;
  }
  const most = state.context - Number($('max-tokens').value || 1);
  $('budget').textContent = files > most
    ? `The files have ${files.toLocaleString()} tokens, beside the answer the context holds ${most.toLocaleString()}: the server will refuse.`
    : `${files.toLocaleString()} of ${state.context.toLocaleString()} tokens`;
}

// -- lens --

// Opened groups of each layer as [first token, tokens]; the server sends distances.
function unpack(lens) {
  for (const layer of lens.layers) {
    let at = 0;
    layer.groups = layer.groups.map((distance) => {
      at += distance;
      return [at * layer.tokens, layer.tokens];
    });
  }
  return lens;
}

function look(token, span) {
  document.querySelector('.token.chosen')?.classList.remove('chosen');
  span.classList.add('chosen');
  state.chosen = token;
  $('lens').hidden = false;
  $('lens-passage').hidden = true;
  $('lens-token').textContent = token.text;
  const {lens} = token;
  const hits = lens.cells_wanted > 0
    ? `, ${(100 * lens.cells_in_memory / lens.cells_wanted).toFixed(1)} % of ${lens.cells_wanted.toLocaleString()} cells were in memory`
    : '';
  $('lens-figures').textContent =
    `${lens.context.toLocaleString()} tokens before it, ${(100 * lens.visible_share).toFixed(1)} % visible${hits}`;
  $('lens-end').textContent = lens.context.toLocaleString();
  drawStrip(lens);
}

function drawStrip(lens) {
  const canvas = $('lens-strip');
  const rows = Math.max(1, lens.layers.length);
  const height = Math.max(6, Math.min(18, Math.floor(240 / rows)));
  canvas.height = rows * height;
  const draw = canvas.getContext('2d');
  draw.clearRect(0, 0, canvas.width, canvas.height);
  lens.layers.forEach((layer, row) => {
    draw.fillStyle = row % 2 ? 'rgba(128,128,128,.08)' : 'rgba(128,128,128,.16)';
    draw.fillRect(0, row * height, canvas.width, height);
    draw.fillStyle = window.matchMedia('(prefers-color-scheme: dark)').matches ? '#f0a45a' : '#8a4b12';
    for (const [first, tokens] of layer.groups) {
      const x = first / lens.context * canvas.width;
      const width = Math.max(1, tokens / lens.context * canvas.width);
      draw.fillRect(x, row * height + 1, width, height - 2);
    }
  });
}

async function readPassage(event) {
  const token = state.chosen;
  if (!token) return;
  const canvas = $('lens-strip');
  const box = canvas.getBoundingClientRect();
  const at = Math.floor((event.clientX - box.left) / box.width * token.lens.context);
  const row = Math.floor((event.clientY - box.top) / box.height * token.lens.layers.length);
  const layer = token.lens.layers[Math.max(0, Math.min(row, token.lens.layers.length - 1))];
  if (!layer || layer.groups.length === 0) return;
  // The opened group that is nearest to the place.
  const distance = ([first, tokens]) => Math.max(first - at, at - first - tokens + 1, 0);
  const group = layer.groups.reduce((a, b) => (distance(b) < distance(a) ? b : a));
  const passage = $('lens-passage');
  passage.hidden = false;
  passage.textContent = 'reading …';
  try {
    token.answer.pieces ??= call('tokenize', {
      model: state.model, messages: token.answer.prompt, with_pieces: true,
    });
    const pieces = (await token.answer.pieces).tokens.map((piece) => piece.piece);
    for (const written of token.answer.tokens) pieces.push(written.text);
    const text = (begin, end) => pieces.slice(Math.max(0, begin), end)
      .map((piece) => (typeof piece === 'string' ? piece : '\uFFFD')).join('');
    const [first, tokens] = group;
    const mark = element('mark', '', text(first, first + tokens));
    passage.replaceChildren(
      `layer ${layer.layer}, tokens ${first.toLocaleString()} to ${(first + tokens - 1).toLocaleString()}\n\n`,
      text(first - 40, first), mark, text(first + tokens, first + tokens + 40));
  } catch (error) {
    passage.textContent = error.message;
  }
}

// -- page --

function load() {
  for (const id of SETTINGS) {
    const kept = localStorage.getItem(`hga.${id}`);
    if (kept === null) continue;
    if ($(id).type === 'checkbox') $(id).checked = kept === 'true';
    else $(id).value = kept;
  }
}

function keep(event) {
  const {id} = event.target;
  if (!SETTINGS.includes(id)) return;  // the key is not written anywhere
  const value = event.target.type === 'checkbox' ? event.target.checked : event.target.value;
  localStorage.setItem(`hga.${id}`, value);
}

function newChat() {
  state.abort?.abort();
  state.messages = [];
  state.files = [];
  $('lens').hidden = true;
  for (const box of document.querySelectorAll('.message')) box.remove();
  $('hint').hidden = false;
  showFiles();
  countTokens();
}

function listen() {
  $('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    ask();
  });
  $('question').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  $('stop').addEventListener('click', () => state.abort?.abort());
  $('new-chat').addEventListener('click', newChat);
  $('show-settings').addEventListener('click', () => {
    const on = $('settings').hidden;
    $('settings').hidden = !on;
    $('show-settings').setAttribute('aria-expanded', String(on));
  });
  $('settings').addEventListener('change', keep);
  $('api-key').addEventListener('change', connect);
  $('file').addEventListener('change', (event) => {
    addFiles(event.target.files);
    event.target.value = '';
  });
  $('lens-close').addEventListener('click', () => { $('lens').hidden = true; });
  $('lens-strip').addEventListener('click', readPassage);
  addEventListener('dragover', (event) => {
    event.preventDefault();
    $('drop').hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) $('drop').hidden = true;
  });
  addEventListener('drop', (event) => {
    event.preventDefault();
    $('drop').hidden = true;
    addFiles(event.dataTransfer.files);
  });
}

load();
listen();
connect();
