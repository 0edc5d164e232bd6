/** The names of all operators, by the files that define them. */

export type Unary =
  'Neg' | 'Exp' | 'Log' | 'Sqrt' | 'Reciprocal' | 'Abs' | 'Sigmoid' | 'Tanh' | 'Erf' | 'Sin' | 'Cos' | 'Relu';
export type Step = 'Floor' | 'Round';
export type Binary = 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow' | 'Max' | 'Min';
export type Comparison = 'Equal' | 'Less' | 'Greater' | 'LessOrEqual' | 'GreaterOrEqual';
export type ElementwiseName =
  Unary | Step | Binary | Comparison | 'And' | 'Or' | 'Not' | 'Where' | 'Cast' | 'Identity';
export type Reduction = 'ReduceSum' | 'ReduceMean' | 'ReduceMax';
export type ReduceName = Reduction | 'ArgMax' | 'TopK' | 'CumSum' | 'Softmax' | 'LogSoftmax';
export type LayoutName =
  | 'Reshape'
  | 'Transpose'
  | 'Slice'
  | 'Concat'
  | 'Split'
  | 'Expand'
  | 'Unsqueeze'
  | 'Squeeze'
  | 'Shape'
  | 'Range';
export type IndexingName = 'Gather' | 'GatherElements' | 'ScatterElements' | 'ScatterND';
export type ProductName = 'MatMul' | 'FusedMatMul';
export type NormName = 'LayerNormalization' | 'SimplifiedLayerNormalization' | 'RotaryEmbedding';
export type QuantizedName =
  | 'MatMulNBits'
  | 'MatMulInteger'
  | 'QuantizeLinear'
  | 'DequantizeLinear'
  | 'GroupQueryAttention'
  | 'CausalConvWithState';

export type OpName =
  ElementwiseName | ReduceName | LayoutName | IndexingName | ProductName | NormName | QuantizedName;
