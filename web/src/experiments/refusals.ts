// What the coordinator refuses, at the fields of the form.

import type { Schemas } from '../api/client';

type FieldError = Schemas['FieldError'];

/// Whether `error` is about the field or something in it: `seeds[0]` is about `seeds`.
function isOf(error: FieldError, field: string): boolean {
  return error.field === field || ['.', '['].some((mark) => error.field.startsWith(field + mark));
}

export function refusalsOf(errors: FieldError[], field: string): FieldError[] {
  return errors.filter((error) => isOf(error, field));
}

/// Those that no field of the form is to blame for.
export function otherRefusals(errors: FieldError[], fields: readonly string[]): FieldError[] {
  return errors.filter((error) => !fields.some((field) => isOf(error, field)));
}

/// `expected …`, with the value and its place where the field has several.
export function words(error: FieldError, field: string): string {
  if (error.field === field && (error.value === '' || error.value === '[]')) return `expected ${error.expected}`;
  const at = error.field === field ? '' : `${error.field.slice(field.length).replace(/^\./, '')}: `;
  return `${at}${error.value === '' ? 'nothing' : error.value} is not valid; expected ${error.expected}`;
}
