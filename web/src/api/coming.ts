// Questions that the coordinator's document doesn't describe yet, with the types that it will give them.

import { type Schemas, Failure, api, ask } from './client';

export type Catalogue = {
  methods: { key: string; label: string; learns: boolean }[];
  protocols: { key: string; all: string[]; published: boolean }[];
  datasets: { key: string; label: string; classes: number | null }[];
  backbones: string[];
  precisions: string[];
  hyperparameters: { name: string; kind: string; description: string; methods: string[] }[];
};

export type Preview = {
  jobs: number;
  new: number;
  counts: Schemas['Counts'];
  device_ms: number | null;
  unknown: number;
};

export type Forecast = {
  spent_ms: number;
  completed_last_hour: number;
  remaining_ms: number | null;
  unknown: number;
  eta: string | null;
};

export type ExperimentSummary = Schemas['ExperimentSummary'] & { submitted_by?: string | null };

export type ResultsQuery = {
  compare?: 'published';
  seeds?: string;
  methods?: string;
  datasets?: string;
};

type Answer = Promise<{ data?: never; error?: unknown; response: Response }>;
const coming = api as unknown as {
  GET(path: string, init?: object): Answer;
  POST(path: string, init?: object): Answer;
};

export function catalogue(): Promise<Catalogue> {
  return ask(coming.GET('/api/v1/catalogue'));
}

export function preview(body: Schemas['ExperimentDocument']): Promise<Preview> {
  return ask(coming.POST('/api/v1/experiments/preview', { body }));
}

/// `null` where the coordinator has no such thing.
export async function forecast(id: number): Promise<Forecast | null> {
  try {
    return await ask<Forecast>(coming.GET('/api/v1/experiments/{id}/forecast', { params: { path: { id } } }));
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    throw error;
  }
}

export function results(id: number, query: ResultsQuery): Promise<Schemas['Results']> {
  return ask(coming.GET('/api/v1/experiments/{id}/results', { params: { path: { id }, query } }));
}
