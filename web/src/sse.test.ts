import { describe, expect, it } from 'vitest';

import { EventParser } from './sse';

describe('EventParser', () => {
  it('gives an event when its end has come, however it was cut', () => {
    const text = 'id: 7\ndata: {"a":1}\n\n: still here\n\nevent: gap\ndata: x\ndata: y\n\n';
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new EventParser();
      const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
      expect(events).toEqual([
        { event: 'message', id: '7', data: '{"a":1}' },
        { event: 'gap', id: null, data: 'x\ny' },
      ]);
    }
  });

  it('keeps what is incomplete', () => {
    const parser = new EventParser();
    expect(parser.push('data: half')).toEqual([]);
    expect(parser.push('\n')).toEqual([]);
    expect(parser.push('\n')).toEqual([{ event: 'message', id: null, data: 'half' }]);
  });
});
